// What the JavaScript servers share: the schema, the journal, standard input, and a graceful stop.
//
// The journal is standard output: one line for whatever has begun, written before anybody is answered, so that
// it is there after a kill -9. Standard input is the test: its lines open and close gates, its end ends us.
import { EventEmitter } from 'node:events';
import { readFileSync, writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { makeExecutableSchema } from '@graphql-tools/schema';

const TICK = 2; // milliseconds between two numbers
const turned = new EventEmitter().setMaxListeners(0);
let released = false;
let held = false;
let runs = 0;

export const journal = (line) => writeSync(1, `${line}\n`);

const until = async (true_) => {
  while (!true_()) await new Promise((resolve) => turned.once('line', resolve));
};

createInterface({ input: process.stdin })
  .on('line', (line) => {
    if (line === 'release' || line === 'block') released = line === 'release';
    if (line === 'hold' || line === 'tick') held = line === 'hold';
    journal(line);
    turned.emit('line');
  })
  .on('close', () => process.exit(1));

async function* count(_, { from, to }) {
  journal(`count ${from}`);
  try {
    for (let n = from; to == null || n < to; n += 1) {
      if (held) {
        journal(`held ${n}`);
        await until(() => !held);
      }
      yield { count: n };
      await pause(TICK);
    }
  } finally {
    journal(`counted ${from}`);
  }
}

export const resolvers = {
  Query: {
    hello: (_, { name }) => `Hello, ${name}!`,
    slow: async (_, { key }) => {
      journal(`slow ${key}`);
      await until(() => released);
      return key;
    },
    broken: () => {
      throw new Error('broken on purpose');
    },
  },
  Mutation: {
    increment: (_, { key }) => {
      journal(`increment ${key}`);
      return (runs += 1);
    },
    slowIncrement: async (_, { key }) => {
      journal(`increment ${key}`);
      runs += 1;
      await until(() => released);
      return runs;
    },
  },
  Subscription: { count: { subscribe: count } },
};

export const typeDefs = readFileSync(new URL('schema.graphql', import.meta.url), 'utf8');
export const schema = makeExecutableSchema({ typeDefs, resolvers });

// graphql-ws and subscriptions-transport-ws: a payload that says so is refused, like a bad token.
export const welcome = (payload) => !payload?.refuse;

// Listen on loopback; with SIGTERM take no more connections nor requests, finish what is under way, and end.
export const serve = (server, stop = async () => {}) => {
  const underWay = new Set();
  server.prependListener('request', (_, response) => {
    underWay.add(response);
    response.once('close', () => underWay.delete(response));
    if (!server.listening) response.setHeader('Connection', 'close');
  });
  server.listen(Number(process.argv[2]), '127.0.0.1', () => journal(`listening ${server.address().port}`));
  process.once('SIGTERM', async () => {
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeIdleConnections();
    for (const response of underWay) if (!response.headersSent) response.setHeader('Connection', 'close');
    journal('stopping');
    await stop();
    await closed;
    process.exit(0);
  });
};
