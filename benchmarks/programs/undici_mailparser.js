// Parses one mail COUNT times with mailparser and posts each as JSON with undici, 50 at a time.
// Prints the CPU time of a message in microseconds, the start of the process left out.
'use strict';
const fs = require('fs');
const { Pool } = require('undici');
const { simpleParser } = require('mailparser');

const [file, url, count, prefix] = process.argv.slice(2);
const mail = fs.readFileSync(file);
const { origin, pathname } = new URL(url);
const pool = new Pool(origin, { connections: 50 });

async function post() {
    const { subject, from, to, messageId, date, headerLines, text, html, attachments } = await simpleParser(mail);
    const body = JSON.stringify({ subject, from, to, messageId, date, headers: headerLines, text, html, attachments });
    const answer = await pool.request({
        path: pathname, method: 'POST', body, headers: { 'content-type': 'application/json' },
    });
    await answer.body.dump();
    if (answer.statusCode !== 204) throw new Error(`answered ${answer.statusCode}`);
}

async function run(times) {
    let left = times;
    const worker = async () => { while (left-- > 0) await post(); };
    await Promise.all(Array.from({ length: 50 }, worker));
}

(async () => {
    await run(500);
    const before = process.cpuUsage();
    const began = process.hrtime.bigint();
    await run(Number(count));
    const used = process.cpuUsage(before);
    const seconds = Number(process.hrtime.bigint() - began) / 1e9;
    console.log(JSON.stringify({ cpu: (used.user + used.system) / count, rate: count / seconds }));
    await pool.close();
})();
