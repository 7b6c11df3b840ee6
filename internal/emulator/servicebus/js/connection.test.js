// How the JavaScript SDK connects: with keys and tokens, over TLS, after a cut, and to what is not there.
// Run it with `npm ci && node --test`: it builds hsmsweep from this repository, unless HSMSWEEP_BINARY names a binary.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { ServiceBusClient } from '@azure/service-bus';
import { Namespace, clientOptions, group, moment, noRenewal, patience } from './emulator.js';

const namespace = new Namespace();
const topic = namespace.topic({ all: [] });

describe('connection', group, () => {
  // The connection string of the emulator has a signature, with which the SDK leaves SASL out.
  namespace.test('a shared access key', {}, async ({ queue, receiver }) => {
    const endpoint = `Endpoint=sb://127.0.0.1:${namespace.port}`;
    const key = 'SharedAccessKeyName=RootManageSharedAccessKey;SharedAccessKey=bm90IGEgc2VjcmV0';
    const client = new ServiceBusClient(`${endpoint};${key};UseDevelopmentEmulator=true`, clientOptions);
    try {
      await client.createSender(queue).sendMessages({ body: 'by key' });
      assert.deepEqual((await receiver.receiveMessages(1, patience)).map((m) => m.body), ['by key']);
    } finally {
      await client.close();
    }
  });

  namespace.test('a token credential over TLS', {}, async ({ queue, receiver }) => {
    // Node.js takes further certificate authorities only when it starts.
    const program = fileURLToPath(new URL('tlsclient.js', import.meta.url));
    const env = { ...process.env, NODE_EXTRA_CA_CERTS: namespace.certificates };
    const { stdout } = await promisify(execFile)(process.execPath, [program, namespace.port, queue], { env });
    assert.equal(stdout, 'received over TLS\n');
    assert.deepEqual(await receiver.peekMessages(1), []);
  });

  namespace.test('the connection is cut and comes back', {}, async ({ queue }) => {
    const proxy = await startProxy(namespace.port);
    // The SDK learns that a message was lost with its connection only when the operation times out.
    const retryOptions = { ...clientOptions.retryOptions, timeoutInMs: 2000 };
    const client = namespace.client({ customEndpointAddress: `sb://127.0.0.1:${proxy.port}`, retryOptions });
    try {
      const sender = client.createSender(queue);
      const receiver = client.createReceiver(queue, noRenewal);
      const inbox = new Inbox();
      const subscription = receiver.subscribe({
        processMessage: async (message) => inbox.put(message.body),
        processError: async () => {},
      });

      await sender.sendMessages({ body: 'before' });
      assert.equal(await inbox.take(), 'before');
      for (const round of [1, 2]) {
        proxy.cut();
        await sender.sendMessages({ body: `after cut ${round}` });
        assert.equal(await inbox.take(), `after cut ${round}`);
      }
      await subscription.close();
    } finally {
      await client.close();
      await proxy.close();
    }
  });

  namespace.test('a lock outlives the connection that it was taken on', {}, async ({ queue, sender, receiver }) => {
    const proxy = await startProxy(namespace.port);
    const client = namespace.client({ customEndpointAddress: `sb://127.0.0.1:${proxy.port}` });
    try {
      await sender.sendMessages({ body: 1 });
      const other = client.createReceiver(queue, noRenewal);
      const [message] = await other.receiveMessages(1, patience);
      proxy.cut();
      assert.deepEqual(await receiver.receiveMessages(1, moment), []);
      await receiver.completeMessage(message);
      assert.deepEqual(await receiver.peekMessages(1), []);
    } finally {
      await client.close();
      await proxy.close();
    }
  });

  namespace.test('an unknown entity', {}, async ({ client }) => {
    const absent = { code: 'MessagingEntityNotFound', retryable: false };
    await assert.rejects(client.createSender('absent').sendMessages({ body: 1 }), absent);
    await assert.rejects(client.createReceiver('absent').receiveMessages(1, moment), absent);
    await assert.rejects(client.createReceiver('absent').peekMessages(1), absent);
    await assert.rejects(client.createReceiver(topic, 'absent').receiveMessages(1, moment), absent);
    const { error } = await new Promise((resolve) => {
      const handlers = { processMessage: async () => {}, processError: async (args) => resolve(args) };
      client.createReceiver('absent').subscribe(handlers);
    });
    assert.equal(error.code, absent.code);
  });

  namespace.test('a name is found whatever its case', {}, async ({ client, queue, receiver }) => {
    await client.createSender(queue.toUpperCase()).sendMessages({ body: 1 });
    assert.deepEqual((await receiver.receiveMessages(1, patience)).map((m) => m.body), [1]);
  });

  namespace.test('messages are neither received from a topic nor sent to a subscription', {}, async ({ client }) => {
    await assert.rejects(client.createReceiver(topic).receiveMessages(1, moment), /receive from a subscription/);
    await assert.rejects(client.createSender(`${topic}/Subscriptions/all`).sendMessages({ body: 1 }), /cannot be sent to/);
  });

  namespace.test('sessions are refused', {}, async ({ client, queue }) => {
    await assert.rejects(client.acceptNextSession(queue), /InvalidOperationError: .*does not require sessions/);
    // The SDK takes every refusal of a session by name for this one.
    await assert.rejects(client.acceptSession(queue, 'a'), { code: 'SessionCannotBeLocked' });
  });

  test('rules are refused', async () => {
    const client = namespace.client();
    try {
      const rules = client.createRuleManager(topic, 'all');
      await assert.rejects(rules.createRule('none', { sqlExpression: '1=0' }), /add-rule.* is not supported/);
      await assert.rejects(rules.getRules(), /enumerate-rules.* is not supported/);
    } finally {
      await client.close();
    }
  });
});

// An Inbox hands on what is put to whoever takes.
class Inbox {
  #items = [];
  #taker;

  put(item) {
    this.#items.push(item);
    this.#taker?.();
  }

  async take() {
    while (this.#items.length === 0) {
      await new Promise((resolve) => {
        this.#taker = resolve;
      });
    }
    return this.#items.shift();
  }
}

// startProxy passes connections on to a port of this machine until they are cut.
async function startProxy(port) {
  const sockets = new Set();
  const server = createServer((client) => {
    const upstream = connect(port, '127.0.0.1');
    for (const [from, to] of [[client, upstream], [upstream, client]]) {
      sockets.add(from);
      from.on('error', () => {});
      from.once('close', () => {
        sockets.delete(from);
        to.destroy();
      });
      from.pipe(to);
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const cut = () => sockets.forEach((socket) => socket.destroy());
  return {
    port: server.address().port,
    cut,
    async close() {
      server.close();
      cut();
      await once(server, 'close');
    },
  };
}
