// Sends and receives one message over TLS with a token: node tlsclient.js PORT QUEUE, with the authority of the
// emulator in NODE_EXTRA_CA_CERTS.
import { ServiceBusClient } from '@azure/service-bus';
import { clientOptions, noRenewal, patience } from './emulator.js';

const [port, queue] = process.argv.slice(2);
const credential = {
  getToken: async () => ({ token: 'a token', expiresOnTimestamp: Date.now() + 3_600_000 }),
};
const client = new ServiceBusClient('test.servicebus.windows.net', credential, {
  ...clientOptions,
  customEndpointAddress: `sb://127.0.0.1:${port}`,
});
try {
  await client.createSender(queue).sendMessages({ body: 'received over TLS' });
  const receiver = client.createReceiver(queue, noRenewal);
  for (const message of await receiver.receiveMessages(1, patience)) {
    await receiver.completeMessage(message);
    console.log(message.body);
  }
} finally {
  await client.close();
}
