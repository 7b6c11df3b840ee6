// What the JavaScript SDK receives, settles, renews and streams behaves as with Azure Service Bus.
// Run it with `npm ci && node --test`: it builds hsmsweep from this repository, unless HSMSWEEP_BINARY names a binary.
import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { Namespace, group, moment, noRenewal, patience, receiveAll } from './emulator.js';

const namespace = new Namespace();

// Long enough for a slow machine to settle within it, short enough to wait for its end.
const shortLock = { LockDuration: 'PT3S' };

describe('receiving', group, () => {
  namespace.test('fewer messages than asked for: the rest of the credit is drained', {}, async ({ sender, receiver }) => {
    for (const round of ['first', 'second']) {
      await sender.sendMessages([1, 2, 3].map((n) => ({ body: `${round} ${n}` })));
      const start = Date.now();
      const received = await receiver.receiveMessages(10, patience);
      // The SDK gathers for a second after the first message; without an answer to its drain it waits the time out.
      assert.ok(Date.now() - start < patience.maxWaitTimeInMs / 2, `took ${Date.now() - start} ms`);
      assert.deepEqual(received.map((m) => m.body), [`${round} 1`, `${round} 2`, `${round} 3`]);
      for (const message of received) {
        await receiver.completeMessage(message);
      }
    }
    assert.deepEqual(await receiver.peekMessages(1), []);
  });

  namespace.test('nothing to receive', {}, async ({ sender, receiver }) => {
    assert.deepEqual(await receiver.receiveMessages(5, moment), []);
    await sender.sendMessages({ body: 'later' });
    assert.deepEqual((await receiver.receiveMessages(1, patience)).map((m) => m.body), ['later']);
  });

  namespace.test('a receiver that waits gets what is sent meanwhile', {}, async ({ sender, receiver }) => {
    const receiving = receiver.receiveMessages(1, patience);
    await sender.sendMessages({ body: 'meanwhile' });
    assert.deepEqual((await receiving).map((m) => m.body), ['meanwhile']);
  });

  namespace.test('complete', {}, async ({ sender, receiver }) => {
    await sender.sendMessages(Array.from({ length: 20 }, (_, body) => ({ body })));
    const received = await receiveAll(receiver, 20);
    await Promise.all(received.map((m) => receiver.completeMessage(m)));
    assert.deepEqual(await receiver.peekMessages(1), []);
  });

  namespace.test('abandon with properties', {}, async ({ sender, receiver }) => {
    await sender.sendMessages({ body: 1, applicationProperties: { kept: 'old', changed: 'old' } });
    const [first] = await receiver.receiveMessages(1, patience);
    await receiver.abandonMessage(first, { changed: 'new', added: 7 });
    const [again] = await receiver.receiveMessages(1, patience);
    assert.deepEqual(again.applicationProperties, { kept: 'old', changed: 'new', added: 7 });
    assert.deepEqual([first.deliveryCount, again.deliveryCount], [0, 1]);
    assert.equal(again.sequenceNumber.toNumber(), first.sequenceNumber.toNumber());
    assert.notEqual(again.lockToken, first.lockToken);
  });

  namespace.test('abandoned too often', { MaxDeliveryCount: 2 }, async ({ queue, sender, receiver, deadLetters }) => {
    await sender.sendMessages({ messageId: 'poison', body: 'poison' });
    for (let i = 0; i < 2; i++) {
      const [message] = await receiver.receiveMessages(1, patience);
      await receiver.abandonMessage(message);
    }
    const [dead] = await deadLetters.receiveMessages(1, patience);
    assert.deepEqual(
      [dead.messageId, dead.deadLetterReason, dead.deadLetterSource, dead.deliveryCount],
      ['poison', 'MaxDeliveryCountExceeded', queue, 2],
    );
    assert.deepEqual(await receiver.peekMessages(1), []);
  });

  namespace.test('defer, and settle the deferred in every way', {}, async ({ sender, receiver, deadLetters }) => {
    await sender.sendMessages(['complete', 'abandon', 'dead-letter', 'defer'].map((body) => ({ body })));
    const received = await receiveAll(receiver, 4);
    for (const message of received) {
      await receiver.deferMessage(message, { deferred: 'once' });
    }
    assert.deepEqual(await receiver.receiveMessages(1, moment), [], 'deferred messages are not received');

    const numbers = received.map((m) => m.sequenceNumber);
    const [complete, abandon, deadLetter, defer] = await receiver.receiveDeferredMessages(numbers);
    assert.deepEqual(
      [complete, abandon, deadLetter, defer].map((m) => [m.body, m.state, m.applicationProperties.deferred]),
      ['complete', 'abandon', 'dead-letter', 'defer'].map((body) => [body, 'deferred', 'once']),
    );
    await receiver.completeMessage(complete);
    await receiver.abandonMessage(abandon);
    await receiver.deadLetterMessage(deadLetter, { deadLetterReason: 'late' });
    await receiver.deferMessage(defer, { deferred: 'twice' });

    assert.deepEqual(
      (await receiver.peekMessages(10)).map((m) => [m.body, m.state, m.deliveryCount, m.applicationProperties.deferred]),
      [['abandon', 'deferred', 1, 'once'], ['defer', 'deferred', 0, 'twice']],
    );
    const [dead] = await deadLetters.receiveMessages(1, patience);
    assert.deepEqual([dead.body, dead.deadLetterReason], ['dead-letter', 'late']);
    await assert.rejects(receiver.receiveDeferredMessages(numbers[0]), { code: 'MessageNotFound' });
  });

  namespace.test('dead-letter with reason and properties', {}, async ({ queue, sender, receiver, deadLetters }) => {
    await sender.sendMessages({ messageId: 'bad', body: { bad: true }, applicationProperties: { kept: 1 } });
    const [message] = await receiver.receiveMessages(1, patience);
    const why = { deadLetterReason: 'reason', deadLetterErrorDescription: 'description' };
    await receiver.deadLetterMessage(message, { ...why, added: 2 });

    const [peeked] = await deadLetters.peekMessages(1);
    const [dead] = await deadLetters.receiveMessages(1, patience);
    for (const m of [peeked, dead]) {
      assert.deepEqual(
        [m.messageId, m.body, m.deadLetterReason, m.deadLetterErrorDescription, m.deadLetterSource],
        ['bad', { bad: true }, 'reason', 'description', queue],
      );
      assert.deepEqual([m.applicationProperties.kept, m.applicationProperties.added], [1, 2]);
    }
    await deadLetters.abandonMessage(dead);
    const [again] = await deadLetters.receiveMessages(1, patience);
    assert.equal(again.deliveryCount, dead.deliveryCount, 'a dead-letter queue counts no deliveries');
    await deadLetters.completeMessage(again);
    assert.deepEqual(await deadLetters.peekMessages(1), []);
  });

  const deadLettering = { DeadLetteringOnMessageExpiration: true };
  namespace.test('an expired message is dead-lettered', deadLettering, async ({ sender, deadLetters }) => {
    await sender.sendMessages({ body: 'short-lived', timeToLive: 500 });
    const [dead] = await deadLetters.receiveMessages(1, patience);
    assert.deepEqual([dead.body, dead.deadLetterReason], ['short-lived', 'TTLExpiredException']);
  });

  namespace.test('a lost lock', shortLock, async ({ sender, receiver }) => {
    await sender.sendMessages({ body: 'deferred' });
    const [message] = await receiver.receiveMessages(1, patience);
    await receiver.deferMessage(message);
    const [deferred] = await receiver.receiveDeferredMessages(message.sequenceNumber);
    await sender.sendMessages({ body: 'active' });
    const [first] = await receiver.receiveMessages(1, patience);

    // The lock that was taken last is the last to expire.
    const [again] = await receiver.receiveMessages(1, patience);
    assert.deepEqual([again.body, again.deliveryCount], ['active', 1], 'a lock that expires counts as a delivery');
    const lost = { code: 'MessageLockLost', retryable: false };
    await assert.rejects(receiver.completeMessage(first), lost);
    await assert.rejects(receiver.renewMessageLock(first), lost);
    await assert.rejects(receiver.completeMessage(deferred), lost);
    await receiver.completeMessage(again);
    assert.deepEqual((await receiver.peekMessages(10)).map((m) => m.body), ['deferred']);
  });

  namespace.test('settling twice', {}, async ({ client, queue, sender, receiver }) => {
    await sender.sendMessages({ body: 1 });
    const [message] = await receiver.receiveMessages(1, patience);
    await receiver.completeMessage(message);
    await assert.rejects(receiver.completeMessage(message), /already settled/);
    const other = client.createReceiver(queue, noRenewal);
    await assert.rejects(other.renewMessageLock(message), { code: 'MessageLockLost' });
  });

  namespace.test('a message is settled after its receiver was closed', {}, async ({ sender, client, queue, receiver }) => {
    await sender.sendMessages({ body: 1 });
    const other = client.createReceiver(queue, noRenewal);
    const [message] = await other.receiveMessages(1, patience);
    await other.close();
    await receiver.completeMessage(message);
    assert.deepEqual(await receiver.peekMessages(1), []);
  });

  namespace.test('renewMessageLock', {}, async ({ sender, receiver }) => {
    await sender.sendMessages({ body: 1 });
    const [message] = await receiver.receiveMessages(1, patience);
    const before = message.lockedUntilUtc;
    await receiver.peekMessages(1);
    const until = await receiver.renewMessageLock(message);
    assert.ok(until > before, `renewed until ${until.toISOString()}, locked until ${before.toISOString()} before`);
    await receiver.completeMessage(message);
  });

  namespace.test('the SDK renews locks by itself', shortLock, async ({ sender, client, queue, receiver }) => {
    await sender.sendMessages({ messageId: 'renewed', body: 1 });
    const renewing = client.createReceiver(queue, { maxAutoLockRenewalDurationInMs: 30_000 });
    const [message] = await renewing.receiveMessages(1, patience);
    const pastLock = message.lockedUntilUtc - Date.now() + 1000;
    assert.deepEqual(await receiver.receiveMessages(1, { maxWaitTimeInMs: pastLock }), [], 'nobody else gets it');
    await renewing.completeMessage(message);
  });

  namespace.test('receive-and-delete', {}, async ({ sender, client, queue, receiver }) => {
    await sender.sendMessages([{ body: 1 }, { body: 2 }, { body: 3 }]);
    const deleting = client.createReceiver(queue, { receiveMode: 'receiveAndDelete' });
    const received = await receiveAll(deleting, 2);
    assert.deepEqual(received.map((m) => m.body), [1, 2]);
    assert.deepEqual((await receiver.peekMessages(10)).map((m) => m.body), [3]);
    await assert.rejects(deleting.completeMessage(received[0]), /receiveAndDelete/);
  });

  namespace.test('subscribe handles several messages at a time and completes them', {}, async ({ sender, receiver }) => {
    const count = 30;
    const maxConcurrentCalls = 5;
    await sender.sendMessages(Array.from({ length: count }, (_, body) => ({ body })));

    const seen = [];
    let running = 0;
    let most = 0;
    await stream(receiver, { maxConcurrentCalls }, async (message, done) => {
      most = Math.max(most, ++running);
      // Renewing takes a round trip, during which other messages come.
      await receiver.renewMessageLock(message);
      running--;
      seen.push(message.body);
      if (seen.length === count) {
        done();
      }
    });
    assert.deepEqual(seen.sort((a, b) => a - b), Array.from({ length: count }, (_, i) => i));
    assert.equal(most, maxConcurrentCalls);
    assert.deepEqual(await receiver.peekMessages(1), []);
  });

  namespace.test('subscribe abandons a message whose handler fails', {}, async ({ sender, receiver }) => {
    await sender.sendMessages({ body: 1 });
    const deliveries = [];
    const errors = await stream(receiver, {}, async (message, done) => {
      deliveries.push(message.deliveryCount);
      if (deliveries.length === 1) {
        throw new Error('once');
      }
      done();
    });
    assert.deepEqual(deliveries, [0, 1]);
    const reported = errors.map(({ error, errorSource }) => [error.message, errorSource]);
    assert.deepEqual(reported, [['once', 'processMessageCallback']]);
    assert.deepEqual(await receiver.peekMessages(1), []);
  });

  namespace.test('the message iterator', {}, async ({ sender, receiver }) => {
    await sender.sendMessages([{ body: 1 }, { body: 2 }, { body: 3 }]);
    const seen = [];
    for await (const message of receiver.getMessageIterator(patience)) {
      seen.push(message.body);
      await receiver.completeMessage(message);
      if (seen.length === 3) {
        break;
      }
    }
    assert.deepEqual(seen, [1, 2, 3]);
  });
});

// stream subscribes until handle calls done, and returns the errors that the SDK reported.
async function stream(receiver, options, handle) {
  const errors = [];
  let subscription;
  await new Promise((done) => {
    subscription = receiver.subscribe(
      {
        processMessage: (message) => handle(message, done),
        processError: async (args) => {
          errors.push(args);
        },
      },
      options,
    );
  });
  await subscription.close();
  return errors;
}
