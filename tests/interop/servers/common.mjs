// What the JavaScript servers share: the schema, the journal, standard input, and a graceful stop.
//
// The journal is standard output: one line for whatever has begun, written before anybody is answered, so that
// it is there after a kill -9. Standard input is the test: its lines open and close gates, its end ends us.
import { EventEmitter } from 'node:events';
import { readFileSync, writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as pause } from 'node:timers/promises';
import { makeExecutableSchema } from '@graphql-tools/schema';
import { GraphQLError } from 'graphql';

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
    control(line);
    journal(line);
    turned.emit('line');
  })
  .on('close', () => process.exit(1));

// Tokens. `token N PLACE` makes token N the only good one, and says in which place any other is refused: `upgrade`
// (401), `false`, `throw` and `close CODE REASON` in onConnect, `subscribe`, `resolver`, `generator`, and over HTTP
// `code` and `status`. `expire CODE REASON` closes the sockets that have another one; `expire drop` breaks them.
// `token off` lets all pass.
let good = null;
let place = '';
const sockets = new Map();

const control = (line) => {
  const [word, first, ...others] = line.split(' ');
  if (word === 'token') {
    good = first === 'off' ? null : `Bearer ${first}`;
    place = others.join(' ');
  }
  if (word !== 'expire') return;
  for (const [socket, authorization] of sockets) {
    if (authorization === good) continue;
    if (first === 'drop') socket.terminate();
    else socket.close(Number(first), others.join(' '));
  }
};

export const refuses = (here, authorization) => {
  if (good === null || authorization === good || place !== here) return false;
  journal(`refused ${here}`);
  return true;
};

export const unauthenticated = (http) =>
  new GraphQLError('who are you', { extensions: { code: 'UNAUTHENTICATED', ...http } });

// What clients send as the payload of connection_init, and what resolvers see as their context.
export const authorizationIn = (payload) => payload?.headers?.Authorization;
const authorizationOf = (context) => context?.authorization ?? authorizationIn(context?.connectionParams);

// For `onConnect`. A payload that says so is refused, like a bad token.
export const welcome = (payload, socket) => {
  if (payload?.refuse) return false;
  const authorization = authorizationIn(payload);
  sockets.set(socket, authorization);
  socket.once('close', () => sockets.delete(socket));
  if (refuses('throw', authorization)) throw new Error('jwt expired');
  const [word, code, ...reason] = place.split(' ');
  if (word === 'close' && refuses(place, authorization)) socket.close(Number(code), reason.join(' '));
  return !refuses('false', authorization);
};

export const verifyClient = ({ req }, done) => done(!refuses('upgrade', req.headers.authorization), 401);

// What servers on graphql-ws share.
export const hooks = {
  onConnect: ({ connectionParams, extra }) => welcome(connectionParams, extra.socket),
  onSubscribe: ({ connectionParams }) =>
    refuses('subscribe', authorizationIn(connectionParams)) ? [unauthenticated()] : undefined,
};

const subscribeToCount = (_, variables, context) => {
  if (refuses('resolver', authorizationOf(context))) throw unauthenticated();
  return count(variables, authorizationOf(context));
};

async function* count({ from, to }, authorization) {
  journal(`count ${from}`);
  try {
    for (let n = from; to == null || n < to; n += 1) {
      if (refuses('generator', authorization)) throw unauthenticated();
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
    hello: (_, { name }, context) => {
      if (refuses('code', authorizationOf(context))) throw unauthenticated();
      return `Hello, ${name}!`;
    },
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
  Subscription: { count: { subscribe: subscribeToCount } },
};

export const typeDefs = readFileSync(new URL('schema.graphql', import.meta.url), 'utf8');
export const schema = makeExecutableSchema({ typeDefs, resolvers });

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
