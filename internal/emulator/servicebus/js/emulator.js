// What the tests of this folder have in common: they run the JavaScript SDK of Azure Service Bus, unchanged, against
// `hsmsweep emulator` as a process of its own. Each test has a queue and a client to itself.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { ServiceBusClient } from '@azure/service-bus';

// The options of a group of tests: queues are apart, so the tests may wait at the same time.
export const group = { concurrency: true, timeout: 20_000 };

// An operation that fails does so long before the group's timeout.
export const clientOptions = { retryOptions: { maxRetries: 3, retryDelayInMs: 100, timeoutInMs: 10_000 } };

// What a test waits for something that is to happen; it goes on at once when it has.
export const patience = { maxWaitTimeInMs: 15_000 };

// A wait for what must not happen: only as long as a message on its way may take.
export const moment = { maxWaitTimeInMs: 500 };

// A receiver that renews no lock behind the test's back.
export const noRenewal = { maxAutoLockRenewalDurationInMs: 0 };

// receiveAll receives exactly count messages, in the order in which they came.
export async function receiveAll(receiver, count) {
  const received = [];
  while (received.length < count) {
    const some = await receiver.receiveMessages(count - received.length, patience);
    if (some.length === 0) {
      throw new Error(`${received.length} of ${count} messages came`);
    }
    received.push(...some);
  }
  return received;
}

// Namespace is an emulator for the tests of one file. It starts before them and stops after them.
export class Namespace {
  #queues = [];
  #topics = [];
  #process;
  #folder;

  constructor() {
    before(() => this.#start(), { timeout: 50_000 });
    after(() => this.#stop(), { timeout: 10_000 });
  }

  // queue adds a queue with properties as in Config.json and returns its name.
  queue(properties = {}) {
    const Name = `queue-${this.#queues.length}`;
    this.#queues.push({ Name, Properties: properties });
    return Name;
  }

  // topic adds a topic and returns its name. Subscriptions are rules as in Config.json, by subscription name.
  topic(subscriptions) {
    const Name = `topic-${this.#topics.length}`;
    const Subscriptions = Object.entries(subscriptions).map(([Name, Rules]) => ({ Name, Rules }));
    this.#topics.push({ Name, Subscriptions });
    return Name;
  }

  // test adds a test of a queue with these properties. It gets a client and what the client has for the queue.
  test(title, properties, run) {
    const queue = this.queue(properties);
    test(title, async () => {
      const client = this.client();
      try {
        await run({
          client,
          queue,
          sender: client.createSender(queue),
          receiver: client.createReceiver(queue, noRenewal),
          deadLetters: client.createReceiver(queue, { ...noRenewal, subQueueType: 'deadLetter' }),
        });
      } finally {
        await client.close();
      }
    });
  }

  client(options) {
    return new ServiceBusClient(this.connectionString, { ...clientOptions, ...options });
  }

  async #start() {
    this.#folder = await mkdtemp(path.join(tmpdir(), 'servicebus-js-'));
    const binary = process.env.HSMSWEEP_BINARY ?? (await build(this.#folder));
    const config = path.join(this.#folder, 'Config.json');
    const namespace = { Name: 'sbemulatorns', Queues: this.#queues, Topics: this.#topics };
    await writeFile(config, JSON.stringify({ UserConfig: { Namespaces: [namespace] } }));

    this.#process = spawn(binary, ['emulator'], { env: environment(config), stdio: ['ignore', 'pipe', 'inherit'] });
    process.once('exit', () => this.#process.kill('SIGKILL'));
    const exports = await readExports(this.#process, ['HSMSWEEP_CONNECTION_STRING', 'SSL_CERT_FILE']);
    this.connectionString = exports.HSMSWEEP_CONNECTION_STRING;
    this.certificates = exports.SSL_CERT_FILE;
    this.port = Number(this.connectionString.match(/^Endpoint=sb:\/\/[^;]+:(\d+);/)[1]);
  }

  async #stop() {
    const child = this.#process;
    if (child?.exitCode === null && child.signalCode === null) {
      child.kill('SIGTERM');
      await once(child, 'exit');
    }
    await rm(this.#folder, { recursive: true, force: true });
    if (child?.exitCode) {
      throw new Error(`hsmsweep emulator ended with code ${child.exitCode}`);
    }
  }
}

async function build(folder) {
  const module = fileURLToPath(new URL('../../../../', import.meta.url));
  const binary = path.join(folder, 'hsmsweep');
  await promisify(execFile)('go', ['build', '-o', binary, './cmd/hsmsweep'], { cwd: module });
  return binary;
}

// environment configures the emulator whatever the caller's own settings for hsmsweep are, on ports that are free.
function environment(config) {
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith('HSMSWEEP_'));
  const ports = ['AMQP', 'ADMIN', 'ARM', 'IDENTITY'].map((service) => [`HSMSWEEP_${service}_ADDR`, '127.0.0.1:0']);
  return { ...Object.fromEntries([...own, ...ports]), HSMSWEEP_CONFIG: config };
}

// readExports reads the lines `export NAME='value'` on the standard output until all of these names have come.
async function readExports(child, names) {
  const found = {};
  for await (const line of createInterface({ input: child.stdout })) {
    const [, name, value] = line.match(/^export (\w+)='(.*)'$/) ?? [];
    found[name] = value;
    if (names.every((wanted) => wanted in found)) {
      return found;
    }
  }
  throw new Error(`hsmsweep emulator ended before it served; it printed ${JSON.stringify(found)}`);
}
