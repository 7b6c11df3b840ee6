// What is sent through the JavaScript SDK arrives as it was sent: bodies, properties, sizes, batches, schedules, topics.
// Run it with `npm ci && node --test`: it builds hsmsweep from this repository, unless HSMSWEEP_BINARY names a binary.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Namespace, clientOptions, group, moment, noRenewal, patience, receiveAll } from './emulator.js';

const namespace = new Namespace();

describe('messages', group, () => {
  namespace.test('bodies and their AMQP types', {}, async ({ sender, receiver }) => {
    const bodies = [
      { body: { connection: 'a', tags: [1, 'two', null], on: true } },
      { body: 'text: žluťoučký 🐎' },
      { body: 42 },
      { body: Buffer.from([0, 1, 2, 255]) },
      { body: Buffer.alloc(0) },
      { bodyType: 'data', body: Buffer.from('not { JSON') },
      { bodyType: 'value', body: 'a value' },
      { bodyType: 'value', body: -1.5 },
      { bodyType: 'value', body: null },
      { bodyType: 'value', body: ['a', ['list']] },
      { bodyType: 'value', body: { nested: { list: [1, 2.5, false] }, at: new Date(86_400_000) } },
      { bodyType: 'sequence', body: [[1, 'two'], [{ three: 3 }]] },
      { bodyType: 'sequence', body: [1, 2, 3] },
    ];
    for (const message of bodies) {
      await sender.sendMessages(message);
    }
    for (const { bodyType = 'data', body } of bodies) {
      const [received] = await receiver.receiveMessages(1, patience);
      assert.deepEqual({ bodyType: received._rawAmqpMessage.bodyType, body: received.body }, { bodyType, body });
    }
  });

  namespace.test('system and application properties', {}, async ({ client, queue, sender }) => {
    const receiver = client.createReceiver(queue, { ...noRenewal, skipConvertingDate: true });
    const sent = {
      body: 'properties',
      messageId: 'id',
      correlationId: 'correlation',
      contentType: 'application/json',
      subject: 'subject',
      to: 'to',
      replyTo: 'reply-to',
      replyToSessionId: 'reply-to-session',
      partitionKey: 'partition',
      timeToLive: 600_000,
      applicationProperties: {
        text: 'žluť',
        empty: '',
        whole: 7,
        large: Number.MAX_SAFE_INTEGER,
        negative: -1,
        fraction: 0.1,
        yes: true,
        no: false,
        nothing: null,
        at: new Date('2030-01-02T03:04:05.678Z'),
      },
    };
    const before = Date.now();
    await sender.sendMessages(sent);
    const [received] = await receiver.receiveMessages(1, patience);

    assert.deepEqual(pick(received, Object.keys(sent)), sent);
    assert.equal(received.sequenceNumber.toNumber(), 1);
    assert.equal(received.deliveryCount, 0);
    assert.equal(received.state, 'active');
    assert.match(received.lockToken, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
    assert.ok(Math.abs(received.enqueuedTimeUtc - before) < 5000, `enqueued at ${received.enqueuedTimeUtc.toISOString()}`);
    assert.equal(received.expiresAtUtc - received.enqueuedTimeUtc, sent.timeToLive);
    assert.ok(received.lockedUntilUtc > received.enqueuedTimeUtc, `locked until ${received.lockedUntilUtc.toISOString()}`);
  });

  namespace.test('an AMQP message with every section', {}, async ({ sender, receiver }) => {
    const sent = {
      header: { priority: 7, durable: true, firstAcquirer: false },
      deliveryAnnotations: { 'x-for-the-broker': 1 },
      messageAnnotations: { 'x-opt-custom': 'kept', 'x-opt-sequence-number': 99 },
      properties: { messageId: 'amqp', groupSequence: 3, contentEncoding: 'gzip', creationTime: 86_400_000 },
      applicationProperties: { key: 'value' },
      bodyType: 'value',
      body: 'body',
      footer: { 'x-checksum': 'abc' },
    };
    await sender.sendMessages(sent);
    const [{ _rawAmqpMessage: received }] = await receiver.receiveMessages(1, patience);
    assert.deepEqual(pick(received.header, Object.keys(sent.header)), sent.header);
    assert.deepEqual(pick(received.properties, Object.keys(sent.properties)), sent.properties);
    const unchanged = ['applicationProperties', 'bodyType', 'body', 'footer'];
    assert.deepEqual(pick(received, unchanged), pick(sent, unchanged));
    assert.equal(received.messageAnnotations['x-opt-custom'], 'kept');
    assert.equal(Number(received.messageAnnotations['x-opt-sequence-number']), 1, 'the broker\'s own, not the sender\'s');
    assert.equal(received.deliveryAnnotations['x-for-the-broker'], 1, 'AMQP means them for one hop, Service Bus passes them on');
  });

  namespace.test('message ids that are numbers and Buffers', {}, async ({ sender, receiver }) => {
    const ids = [0, 12_345, Buffer.from('0123456789abcdef')];
    await sender.sendMessages(ids.map((messageId) => ({ messageId, body: '' })));
    const received = await receiver.receiveMessages(ids.length, patience);
    assert.deepEqual(received.map((m) => m.messageId), ids);
  });

  namespace.test('a message of 250 KB, to the queue and back', {}, async ({ sender, receiver }) => {
    const body = Buffer.from(Uint8Array.from({ length: 250 << 10 }, (_, i) => i % 251));
    await sender.sendMessages({ body });
    const [peeked] = await receiver.peekMessages(1);
    assert.ok(body.equals(peeked.body), 'the body as peeked is not what was sent');
    const [received] = await receiver.receiveMessages(1, patience);
    assert.ok(body.equals(received.body), 'the body as received is not what was sent');
    await receiver.completeMessage(received);
  });

  // The SDK renews locks by message id, and throws for a message without one when it is completed.
  namespace.test('a message without an id gets one', {}, async ({ client, queue, sender }) => {
    const receiver = client.createReceiver(queue);
    await sender.sendMessages({ body: 1 });
    const [message] = await receiveAll(receiver, 1);
    assert.match(message.messageId, /^[0-9]+$/);
    await receiver.completeMessage(message);
  });

  namespace.test('a message that is too large is refused, and the link goes on', {}, async ({ queue, receiver }) => {
    const client = namespace.client({ retryOptions: { ...clientOptions.retryOptions, maxRetries: 0, timeoutInMs: 5000 } });
    try {
      const sender = client.createSender(queue);
      await assert.rejects(sender.sendMessages({ body: Buffer.alloc(300 << 10) }), { code: 'MessageSizeExceeded' });
      await sender.sendMessages({ body: 'small' });
    } finally {
      await client.close();
    }
    assert.deepEqual((await receiver.peekMessages(10)).map((m) => m.body), ['small']);
  });

  namespace.test('a batch takes as much as the link and keeps the order', {}, async ({ sender, receiver }) => {
    const batch = await sender.createMessageBatch();
    assert.equal(batch.maxSizeInBytes, 256 << 10);
    let count = 0;
    while (batch.tryAddMessage({ body: { count, padding: 'x'.repeat(4096) }, messageId: `in-batch-${count}` })) {
      count++;
    }
    assert.ok(count > 50, `the batch took only ${count} messages of 4 KiB`);
    await sender.sendMessages(batch);

    const received = await receiveAll(receiver, count);
    assert.deepEqual(
      received.map((m) => [m.messageId, m.body.count]),
      Array.from({ length: count }, (_, i) => [`in-batch-${i}`, i]),
    );
  });

  namespace.test('3000 messages over one link', {}, async ({ sender, client, queue }) => {
    const count = 3000;
    const receiver = client.createReceiver(queue, { receiveMode: 'receiveAndDelete' });
    await Promise.all(Array.from({ length: count }, (_, i) => sender.sendMessages({ body: i })));
    const received = await receiveAll(receiver, count);
    assert.deepEqual(received.map((m) => m.body).sort((a, b) => a - b), Array.from({ length: count }, (_, i) => i));
  });

  namespace.test('peek shows messages in every state and locks none', {}, async ({ sender, receiver }) => {
    assert.deepEqual(await receiver.peekMessages(10), [], 'an empty queue');

    await sender.sendMessages([{ body: 'deferred' }, { body: 'locked' }, { body: 'active' }]);
    await sender.scheduleMessages({ body: 'scheduled' }, inOneHour());
    const [first] = await receiver.receiveMessages(2, patience);
    await receiver.deferMessage(first);

    const peeked = await receiver.peekMessages(10, { fromSequenceNumber: first.sequenceNumber });
    assert.deepEqual(
      peeked.map((m) => [m.body, m.state, m.sequenceNumber.toNumber()]),
      [['deferred', 'deferred', 1], ['locked', 'active', 2], ['active', 'active', 3], ['scheduled', 'scheduled', 4]],
    );
    assert.deepEqual(peeked.map((m) => m.lockToken), [undefined, undefined, undefined, undefined]);
    const [last] = peeked.slice(-1);
    assert.deepEqual(await receiver.peekMessages(1, { fromSequenceNumber: last.sequenceNumber.add(1) }), []);
    assert.deepEqual((await receiver.receiveMessages(1, patience)).map((m) => m.body), ['active']);
  });

  namespace.test('peek goes on where it ended', {}, async ({ sender, receiver }) => {
    await sender.sendMessages([1, 2, 3, 4, 5].map((body) => ({ body })));
    const pages = [];
    for (let i = 0; i < 4; i++) {
      pages.push((await receiver.peekMessages(2)).map((m) => m.body));
    }
    assert.deepEqual(pages, [[1, 2], [3, 4], [5], []]);
  });

  namespace.test('schedule and cancel', {}, async ({ sender, receiver }) => {
    const due = inOneHour();
    const numbers = await sender.scheduleMessages([{ body: 'cancelled' }, { body: 'kept' }], due);
    assert.deepEqual(numbers.map(Number), [1, 2]);
    await sender.cancelScheduledMessages(numbers[0]);

    const peeked = await receiver.peekMessages(10, { fromSequenceNumber: numbers[0] });
    assert.deepEqual(
      peeked.map((m) => [m.body, m.state, m.scheduledEnqueueTimeUtc]),
      [['kept', 'scheduled', due]],
    );
    assert.deepEqual(await receiver.receiveMessages(1, moment), [], 'nothing is due');
    await assert.rejects(sender.cancelScheduledMessages(numbers[0]), { code: 'MessageNotFound' });
  });

  namespace.test('a scheduled message becomes active when it is due', {}, async ({ sender, receiver }) => {
    const due = new Date(Date.now() + 1500);
    await sender.scheduleMessages({ body: 'by schedule' }, due);
    await sender.sendMessages({ body: 'by send', scheduledEnqueueTimeUtc: due });
    const received = await receiveAll(receiver, 2);
    assert.deepEqual(received.map((m) => m.body), ['by schedule', 'by send']);
    for (const m of received) {
      const [at, expected] = [m.enqueuedTimeUtc.toISOString(), due.toISOString()];
      assert.ok(Date.now() >= due && m.enqueuedTimeUtc >= due, `${m.body}: enqueued at ${at}, due at ${expected}`);
    }
  });

  const detecting = { RequiresDuplicateDetection: true };
  namespace.test('duplicates are accepted and dropped', detecting, async ({ sender, receiver }) => {
    await sender.sendMessages({ messageId: 'a', body: 'first' });
    await sender.sendMessages({ messageId: 'a', body: 'repeated alone' });
    await sender.sendMessages([{ messageId: 'a', body: 'repeated in a batch' }, { messageId: 'b', body: 'second' }]);
    const [number] = await sender.scheduleMessages({ messageId: 'c', body: 'scheduled' }, inOneHour());
    assert.deepEqual(await sender.scheduleMessages({ messageId: 'c', body: 'repeated schedule' }, inOneHour()), [number]);

    const [first] = await receiver.receiveMessages(1, patience);
    await receiver.completeMessage(first);
    await sender.sendMessages({ messageId: 'a', body: 'repeated after completion' });
    assert.deepEqual((await receiver.peekMessages(10)).map((m) => m.body), ['second', 'scheduled']);
  });

  const rule = (filter) => ({ Name: 'only', Properties: { FilterType: 'Correlation', CorrelationFilter: filter } });
  const topic = namespace.topic({
    all: [],
    red: [rule({ Properties: { color: 'red' } })],
    urgent: [rule({ Label: 'urgent' })],
  });
  test('a topic gives each subscription the messages that its filter takes', async () => {
    const client = namespace.client();
    try {
      const sender = client.createSender(topic);
      await sender.sendMessages([
        { body: 1, applicationProperties: { color: 'red' } },
        { body: 2, subject: 'urgent', applicationProperties: { color: 'blue' } },
        { body: 3 },
      ]);
      for (const [subscription, expected] of [['all', [1, 2, 3]], ['red', [1]], ['urgent', [2]]]) {
        const receiver = client.createReceiver(topic, subscription, noRenewal);
        const received = await receiveAll(receiver, expected.length);
        assert.deepEqual(received.map((m) => m.body), expected, `subscription ${subscription}`);
        await receiver.deadLetterMessage(received[0], { deadLetterReason: subscription });
        const deadLetters = client.createReceiver(topic, subscription, { ...noRenewal, subQueueType: 'deadLetter' });
        const [dead] = await deadLetters.receiveMessages(1, patience);
        assert.deepEqual([dead.body, dead.deadLetterReason], [expected[0], subscription]);
      }
      await assert.rejects(client.createReceiver(topic).receiveMessages(1, moment), /receive from a subscription/);
    } finally {
      await client.close();
    }
  });
});

function pick(object, keys) {
  return Object.fromEntries(keys.map((key) => [key, object[key]]));
}

function inOneHour() {
  return new Date(Date.now() + 3_600_000);
}
