// A Haraka plugin: takes mail for everybody, posts it to the url of config/post.json, then 250.
'use strict';
const http = require('http');

const agent = new http.Agent({ keepAlive: true, maxSockets: 50 });

exports.register = function () {
    this.target = this.config.get('post.json').url;
};

exports.hook_rcpt = (next) => next(OK);

exports.hook_queue = function (next, connection) {
    connection.transaction.message_stream.get_data((body) => {
        const headers = { 'Content-Length': body.length };
        const request = http.request(this.target, { method: 'POST', agent, headers }, (answer) => {
            answer.resume();
            answer.on('end', () => next(answer.statusCode === 204 ? OK : DENYSOFT));
        });
        request.on('error', () => next(DENYSOFT));
        request.end(body);
    });
};
