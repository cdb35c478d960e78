// Apollo Server on Express, its subscriptions over graphql-ws as its documentation says.
import { createServer } from 'node:http';
import { ApolloServer } from '@apollo/server';
import { ApolloServerPluginDrainHttpServer } from '@apollo/server/plugin/drainHttpServer';
import { expressMiddleware } from '@as-integrations/express5';
import express from 'express';
import { useServer } from 'graphql-ws/use/ws';
import { WebSocketServer } from 'ws';
import { hooks, refuses, schema, serve, unauthenticated, verifyClient } from './common.mjs';

const app = express();
const server = createServer(app);
const sockets = new WebSocketServer({ server, path: '/graphql', verifyClient });
const subscriptions = useServer({ schema, context: (context) => context, ...hooks }, sockets);
const apollo = new ApolloServer({
  schema,
  stopOnTerminationSignals: false,
  introspection: true,
  includeStacktraceInErrorResponses: false,
  logger: { debug() {}, info() {}, warn() {}, error() {} },
  plugins: [
    ApolloServerPluginDrainHttpServer({ httpServer: server }),
    { serverWillStart: async () => ({ drainServer: () => subscriptions.dispose() }) },
  ],
});
await apollo.start();
const context = async ({ req: { headers } }) => {
  if (refuses('status', headers.authorization)) throw unauthenticated({ http: { status: 401 } });
  return { authorization: headers.authorization };
};
app.use('/graphql', express.json(), expressMiddleware(apollo, { context }));
serve(server, () => apollo.stop());
