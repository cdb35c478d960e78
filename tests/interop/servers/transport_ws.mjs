// The older protocol's own server, subscriptions-transport-ws, beside graphql-http.
import { createServer } from 'node:http';
import { execute, subscribe } from 'graphql';
import { createHandler } from 'graphql-http/lib/use/http';
import { SubscriptionServer } from 'subscriptions-transport-ws';
import { authorizationIn, refuses, schema, serve, verifyClient, welcome } from './common.mjs';

const handle = createHandler({
  schema,
  context: ({ headers: { authorization } }) =>
    refuses('status', authorization) ? [null, { status: 401, statusText: 'Unauthorized' }] : { authorization },
});
const server = createServer((request, response) => {
  if (request.url.startsWith('/graphql')) return handle(request, response);
  return response.writeHead(404).end();
});
const subscriptions = SubscriptionServer.create(
  {
    schema,
    execute,
    subscribe,
    onConnect: (payload, socket) => welcome(payload, socket) && { connectionParams: payload },
    onOperation: (_, params) => {
      if (refuses('subscribe', authorizationIn(params.context.connectionParams))) throw new Error('Unauthorized');
      return params;
    },
  },
  { server, path: '/graphql', verifyClient },
);
serve(server, async () => {
  subscriptions.close();
  for (const socket of subscriptions.server.clients) socket.close(1001);
});
