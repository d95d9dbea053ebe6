// MLLP peers of other authors, driven by tests/acceptance/test_interop.py:
//
//   node peer.cjs client medplum|node-hl7 PORT FILE...    sends each file, prints each ack
//   node peer.cjs server medplum|node-hl7 PORT            prints what comes, answers AA
//
// Output is one JSON object per line. A server ends with its stdin.

const { readFileSync } = require('node:fs');

const [role, peer, port, ...files] = process.argv.slice(2);
const say = (line) => process.stdout.write(JSON.stringify(line) + '\n');

async function medplumClient() {
  const { Hl7Client } = require('@medplum/hl7');
  const { Hl7Message } = require('@medplum/core');
  const client = new Hl7Client({ host: '127.0.0.1', port: Number(port), keepAlive: true });
  for (const file of files) {
    const ack = await client.sendAndWait(Hl7Message.parse(readFileSync(file, 'utf8')));
    say({ ack: ack.toString() });
  }
  await client.close();
}

async function nodeHl7Client() {
  const { Client, Message } = require('node-hl7-client');
  const client = new Client({ host: '127.0.0.1' });
  let answered;
  const connection = client.createConnection({ port: Number(port) }, async (response) => {
    say({ ack: response.getMessage().toString() });
    answered();
  });
  await new Promise((resolve) => connection.once('connect', resolve));
  for (const file of files) {
    const ack = new Promise((resolve) => { answered = resolve; });
    await connection.sendMessage(new Message({ text: readFileSync(file, 'utf8') }));
    await ack;
  }
  await connection.close();
}

function medplumServer() {
  const { Hl7Server } = require('@medplum/hl7');
  const server = new Hl7Server((connection) => {
    connection.addEventListener('message', ({ message }) => {
      say({ message: message.toString() });
      connection.send(message.buildAck());
    });
  });
  server.start(Number(port));
  server.server.once('listening', () => say({ listening: true }));
}

function nodeHl7Server() {
  const { Server } = require('node-hl7-server');
  const inbound = new Server({ bindAddress: '127.0.0.1' }).createInbound({ port: Number(port) }, async (req, res) => {
    say({ message: req.getMessage().toString() });
    await res.sendResponse('AA');
  });
  inbound.once('listen', () => say({ listening: true }));
}

const roles = {
  client: { medplum: medplumClient, 'node-hl7': nodeHl7Client },
  server: { medplum: medplumServer, 'node-hl7': nodeHl7Server },
};
async function run() {
  await roles[role][peer]();
  if (role === 'client') {
    process.exit(0); // whatever timers a client leaves behind
  }
  process.stdin.on('end', () => process.exit(0)).resume();
}

run().catch((error) => {
  console.error(error);
  process.exit(1);
});
