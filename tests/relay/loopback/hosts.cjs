//! Node.js loads this file before a program: the hosts of the Bot Framework are the fake connector
//! of the test, and no other host can be reached.

const dns = require("node:dns");
const tls = require("node:tls");

const hosts = process.env.FAKE_HOSTS.split(",");
const connect = tls.connect;

tls.connect = (options, ...rest) => {
  const known = hosts.includes(options.host) && Number(options.port) === 443;
  if (!known) throw new Error(`a test does not connect to ${options.host}`);
  const { FAKE_PORT: port } = process.env;
  return connect({ ...options, servername: options.host, host: "127.0.0.1", port }, ...rest);
};

const lookup = dns.lookup;
dns.lookup = (host, ...rest) => {
  if (host === "127.0.0.1") return lookup(host, ...rest);
  return rest.at(-1)(new Error(`a test does not look up ${host}`));
};
