// A Node server on the port and with the keep-alive timeout (milliseconds) that its arguments say. Node adds a second.

const { createServer } = require("node:http");

const times = new Map();

const server = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const name = request.url.split("/").pop();
    if (request.url.startsWith("/once/")) {
      times.set(name, (times.get(name) ?? 0) + 1);
      response.end(String(times.get(name)));
    } else if (request.url.startsWith("/fields/")) {
      response.end(JSON.stringify(request.rawHeaders));
    } else {
      response.end(Buffer.concat([Buffer.from(`${request.method} ${name}\n`), ...chunks]));
    }
  });
});

server.keepAliveTimeout = Number(process.argv[3]);
server.listen(Number(process.argv[2]), "127.0.0.1");
