// The older protocol's own server, subscriptions-transport-ws, beside graphql-http.
import { createServer } from 'node:http';
import { execute, subscribe } from 'graphql';
import { createHandler } from 'graphql-http/lib/use/http';
import { SubscriptionServer } from 'subscriptions-transport-ws';
import { schema, serve, welcome } from './common.mjs';

const handle = createHandler({ schema });
const server = createServer((request, response) => {
  if (request.url.startsWith('/graphql')) return handle(request, response);
  return response.writeHead(404).end();
});
const subscriptions = SubscriptionServer.create(
  { schema, execute, subscribe, onConnect: (payload) => welcome(payload) },
  { server, path: '/graphql' },
);
serve(server, async () => {
  subscriptions.close();
  for (const socket of subscriptions.server.clients) socket.close(1001);
});
