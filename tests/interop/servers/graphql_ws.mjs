// The reference implementations of both transports: graphql-http, and graphql-ws on ws.
import { createServer } from 'node:http';
import { createHandler } from 'graphql-http/lib/use/http';
import { useServer } from 'graphql-ws/use/ws';
import { WebSocketServer } from 'ws';
import { schema, serve, welcome } from './common.mjs';

const handle = createHandler({ schema });
const server = createServer((request, response) => {
  if (request.url.startsWith('/graphql')) return handle(request, response);
  return response.writeHead(404).end();
});
const sockets = new WebSocketServer({ server, path: '/graphql' });
const subscriptions = useServer({ schema, onConnect: (context) => welcome(context.connectionParams) }, sockets);
serve(server, () => subscriptions.dispose());
