// A bare AMQP 1.0 client, rhea, at the edges that the SDK does not touch: credit by hand, drain, outcomes, refusals.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import rhea from 'rhea';
import { Namespace, group } from './emulator.js';

const namespace = new Namespace();

// bare adds a test that gets a connection and a queue to itself.
function bare(title, properties, run) {
  const queue = namespace.queue(properties);
  test(title, async () => {
    const connection = rhea.create_container().connect({ host: '127.0.0.1', port: namespace.port, username: 'anybody', reconnect: false });
    try {
      await once(connection, 'connection_open');
      await run(connection, queue);
    } finally {
      connection.close();
      await once(connection, 'connection_close');
    }
  });
}

// send sends messages and waits until each is accepted.
async function send(connection, queue, ...bodies) {
  const sender = connection.open_sender(queue);
  for (const body of bodies) {
    if (!sender.sendable()) {
      await once(sender, 'sendable');
    }
    sender.send({ body });
    await once(sender, 'accepted');
  }
  sender.close();
  await once(sender, 'sender_close');
}

// receive opens a receiver that asks for nothing by itself.
function receive(connection, queue) {
  return connection.open_receiver({ source: queue, credit_window: 0, autoaccept: false, autosettle: false });
}

// next waits for one message.
async function next(receiver) {
  receiver.add_credit(1);
  const [context] = await once(receiver, 'message');
  return context;
}

describe('rhea', group, () => {
  bare('a drain gives what is there and takes the rest of the credit back', {}, async (connection, queue) => {
    await send(connection, queue, 'a', 'b', 'c');
    const receiver = receive(connection, queue);
    const bodies = [];
    receiver.on('message', ({ message, delivery }) => {
      bodies.push(message.body);
      delivery.accept();
    });
    receiver.drain = true;
    receiver.add_credit(10);
    await once(receiver, 'receiver_drained');
    assert.deepEqual(bodies, ['a', 'b', 'c']);
    assert.equal(receiver.credit, 0);
  });

  bare('a released message is not counted, a modified one is', {}, async (connection, queue) => {
    await send(connection, queue, 'x');
    const receiver = receive(connection, queue);
    const first = await next(receiver);
    assert.equal(first.message.delivery_count ?? 0, 0);
    first.delivery.release();
    const second = await next(receiver);
    assert.equal(second.message.delivery_count ?? 0, 0);
    second.delivery.modified({ delivery_failed: true, undeliverable_here: false });
    const third = await next(receiver);
    assert.equal(third.message.delivery_count, 1);
    third.delivery.accept();
  });

  bare('a rejected message is dead-lettered with its condition', {}, async (connection, queue) => {
    await send(connection, queue, 'x');
    (await next(receive(connection, queue))).delivery.reject({ condition: 'example:bad', description: 'it is bad' });
    const { message } = await next(receive(connection, `${queue}/$DeadLetterQueue`));
    assert.equal(message.body, 'x');
    assert.equal(message.application_properties.DeadLetterReason, 'example:bad');
  });

  bare('a message of many frames', {}, async (connection, queue) => {
    const body = 'x'.repeat(200_000);
    await send(connection, queue, body);
    const { message, delivery } = await next(receive(connection, queue));
    assert.equal(message.body, body);
    delivery.accept();
  });

  bare('an unknown entity is refused, and the connection goes on', {}, async (connection, queue) => {
    const receiver = receive(connection, 'nothing-here');
    await once(receiver, 'receiver_error');
    assert.equal(receiver.error.condition, 'amqp:not-found');
    await send(connection, queue, 'x');
  });

  bare('two sessions on one connection', {}, async (connection, queue) => {
    const session = connection.create_session();
    session.open();
    await send(connection, queue, 'x');
    const receiver = session.open_receiver({ source: queue, credit_window: 0, autoaccept: false });
    const { message, delivery } = await next(receiver);
    assert.equal(message.body, 'x');
    delivery.accept();
    session.close();
    await once(session, 'session_close');
  });
});
