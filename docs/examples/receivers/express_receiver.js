const crypto = require("node:crypto");
const fs = require("node:fs/promises");
const express = require("express");

const secret = Buffer.from(process.env.WEBHOOK_SECRET.replace(/^whsec_/, ""), "base64");

function verified(headers, body) {
  const { "webhook-id": id, "webhook-timestamp": time, "webhook-signature": entries } = headers;
  if (!entries || !Buffer.isBuffer(body)) return false;
  if (!(Math.abs(Date.now() / 1000 - Number(time)) < 300)) return false;
  const wanted = crypto.createHmac("sha256", secret).update(`${id}.${time}.`).update(body).digest();
  return entries.split(" ").some((entry) => {
    const [version, signature] = entry.split(",");
    const given = Buffer.from(signature ?? "", "base64");
    return version === "v1" && given.length === wanted.length
      && crypto.timingSafeEqual(given, wanted);
  });
}

async function keep(delivery, body) {
  await fs.mkdir("inbox", { recursive: true });
  const part = `inbox/.${delivery}`;
  const file = await fs.open(part, "w");
  try {
    await file.writeFile(body);
    await file.sync();
  } finally {
    await file.close();
  }
  await fs.rename(part, `inbox/${delivery}.json`);
}

const app = express();

app.post("/inbound", express.raw({ type: () => true, limit: "100mb" }), (request, response) => {
  if (!verified(request.headers, request.body)) return response.sendStatus(401);
  keep(request.headers["webhook-id"], request.body).then(
    () => response.sendStatus(204),
    () => response.sendStatus(500),
  );
});

const server = app.listen(Number(process.env.PORT ?? 3000), "127.0.0.1", () => {
  console.log(`listening on port ${server.address().port}`);
});
