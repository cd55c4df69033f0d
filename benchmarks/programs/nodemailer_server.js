// nodemailer's smtp-server on PORT: writes each message to a file below DIRECTORY, syncs it, then 250.
'use strict';
const fs = require('fs');
const path = require('path');
const { SMTPServer } = require('smtp-server');

const [port, directory] = process.argv.slice(2);
let number = 0;

new SMTPServer({
    authOptional: true,
    disabledCommands: ['AUTH', 'STARTTLS'],
    disableReverseLookup: true,
    maxClients: 20000,
    size: 100 << 20,
    logger: false,
    onData(stream, session, done) {
        const chunks = [];
        stream.on('data', chunk => chunks.push(chunk));
        stream.on('error', done);
        stream.on('end', () => {
            fs.open(path.join(directory, String(number++).padStart(9, '0')), 'wx', 0o600, (error, file) => {
                if (error) return done(error);
                fs.writev(file, chunks, error => {
                    if (error) return done(error);
                    fs.fsync(file, error => fs.close(file, () => done(error)));
                });
            });
        });
    },
}).listen(Number(port), '127.0.0.1');
