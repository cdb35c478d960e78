// The reference implementations of both transports: graphql-http, and graphql-ws on ws.
import { createServer } from 'node:http';
import { createHandler } from 'graphql-http/lib/use/http';
import { useServer } from 'graphql-ws/use/ws';
import { WebSocketServer } from 'ws';
import { hooks, refuses, schema, serve } from './common.mjs';

const handle = createHandler({
  schema,
  context: ({ headers: { authorization } }) =>
    refuses('status', authorization) ? [null, { status: 401, statusText: 'Unauthorized' }] : { authorization },
});
const server = createServer((request, response) => {
  if (request.url.startsWith('/graphql')) return handle(request, response);
  return response.writeHead(404).end();
});
const sockets = new WebSocketServer({ noServer: true, path: '/graphql' });
server.on('upgrade', (request, socket, head) => {
  if (refuses('upgrade', request.headers.authorization)) {
    socket.write('HTTP/1.1 401 Unauthorized\r\n\r\n');
    socket.destroy();
    return;
  }
  sockets.handleUpgrade(request, socket, head, (open) => sockets.emit('connection', open, request));
});
const subscriptions = useServer({ schema, context: (context) => context, ...hooks }, sockets);
serve(server, () => subscriptions.dispose());
