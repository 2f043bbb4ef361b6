// The application for Node, on the port of its argument.

const { createServer } = require("node:http");

const statuses = { empty: 204, unchanged: 304 };

createServer((request, response) => {
  const [, way, name] = request.url.split("/");
  const answer = () => {
    response.writeHead(statuses[way] || 200, { "Content-Type": "text/plain" });
    response.end(`${request.method} ${name}\n`);
  };
  if (way === "echo") {
    request.on("end", answer).resume();
  } else {
    answer();
  }
}).listen(Number(process.argv[2]), "127.0.0.1");
