// GraphQL Yoga on node:http, its subscriptions over graphql-ws as its documentation says.
import { createServer } from 'node:http';
import { useServer } from 'graphql-ws/use/ws';
import { createYoga } from 'graphql-yoga';
import { WebSocketServer } from 'ws';
import { hooks, refuses, schema, serve, unauthenticated, verifyClient } from './common.mjs';

const context = ({ request }) => {
  const authorization = request?.headers.get('authorization');
  if (authorization && refuses('status', authorization)) throw unauthenticated({ http: { status: 401 } });
  return { authorization };
};
const yoga = createYoga({ schema, context, logging: false, graphiql: { subscriptionsProtocol: 'WS' } });
const server = createServer(yoga);
const sockets = new WebSocketServer({ server, path: yoga.graphqlEndpoint, verifyClient });
const subscriptions = useServer(
  {
    ...hooks,
    execute: (args) => args.rootValue.execute(args),
    subscribe: (args) => args.rootValue.subscribe(args),
    onSubscribe: async (context, _id, payload) => {
      const refused = hooks.onSubscribe(context);
      if (refused) return refused;
      const { schema, execute, subscribe, contextFactory, parse, validate } = yoga.getEnveloped({
        ...context,
        req: context.extra.request,
        socket: context.extra.socket,
        params: payload,
      });
      const args = {
        schema,
        operationName: payload.operationName,
        document: parse(payload.query),
        variableValues: payload.variables,
        contextValue: await contextFactory(),
        rootValue: { execute, subscribe },
      };
      const errors = validate(args.schema, args.document);
      return errors.length ? errors : args;
    },
  },
  sockets,
);
serve(server, async () => {
  await subscriptions.dispose();
  await yoga.dispose();
});
