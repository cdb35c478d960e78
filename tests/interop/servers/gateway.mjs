// Apollo Gateway before two subgraphs, all on loopback. Only the second subgraph asks for `Bearer new`, in its
// context, as Apollo's documentation says: the request to it is refused, after the first one has run its part.
// The gateway itself refuses `Bearer expired`, before it asks anybody.
import { createServer } from 'node:http';
import { ApolloGateway, IntrospectAndCompose, RemoteGraphQLDataSource } from '@apollo/gateway';
import { ApolloServer } from '@apollo/server';
import { buildSubgraphSchema } from '@apollo/subgraph';
import { expressMiddleware } from '@as-integrations/express5';
import express from 'express';
import { GraphQLError, parse } from 'graphql';
import { journal, serve } from './common.mjs';

process.env.APOLLO_TELEMETRY_DISABLED = 'true';

const settings = {
  introspection: true,
  includeStacktraceInErrorResponses: false,
  stopOnTerminationSignals: false,
  logger: { debug() {}, info() {}, warn() {}, error() {} },
};

const handlerOf = async (apollo, context) => {
  await apollo.start();
  return express().use('/graphql', express.json(), expressMiddleware(apollo, { context }));
};

const isIntrospection = (body) => /_service|__schema/.test(body?.query ?? '');

const refused = () =>
  new GraphQLError('token expired', { extensions: { code: 'UNAUTHENTICATED', http: { status: 401 } } });

const authenticated = async ({ req }) => {
  if (!isIntrospection(req.body) && req.headers.authorization !== 'Bearer new') throw refused();
  return {};
};

const admitted = async ({ req }) => {
  if (req.headers.authorization === 'Bearer expired') throw refused();
  return { token: req.headers.authorization };
};

const subgraph = async (name, sdl, resolvers, context = async () => ({})) => {
  const schema = buildSubgraphSchema({ typeDefs: parse(sdl), resolvers });
  const server = createServer(await handlerOf(new ApolloServer({ ...settings, schema }), context));
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  server.unref();
  return { name, url: `http://127.0.0.1:${server.address().port}/graphql` };
};

const note = (what) => (_, { key }) => {
  journal(`${what} ${key}`);
  return key;
};

const subgraphs = [
  await subgraph(
    'orders',
    `type Query { order(key: String!): String! maybeOrder(key: String!): String }
     type Mutation { increment(key: String!): String! maybeIncrement(key: String!): String }`,
    {
      Query: { order: note('order'), maybeOrder: note('order') },
      Mutation: { increment: note('increment'), maybeIncrement: note('increment') },
    },
  ),
  await subgraph(
    'notices',
    `type Query { notice(key: String!): String! maybeNotice(key: String!): String }
     type Mutation { notify(key: String!): String! maybeNotify(key: String!): String }`,
    {
      Query: { notice: note('notice'), maybeNotice: note('notice') },
      Mutation: { notify: note('notify'), maybeNotify: note('notify') },
    },
    authenticated,
  ),
];

class Forwarding extends RemoteGraphQLDataSource {
  willSendRequest({ request, context }) {
    if (context.token) request.http.headers.set('authorization', context.token);
  }
}

const gateway = new ApolloGateway({
  supergraphSdl: new IntrospectAndCompose({ subgraphs }),
  buildService: ({ url }) => new Forwarding({ url }),
  logger: settings.logger,
});
const apollo = new ApolloServer({ ...settings, gateway });
serve(createServer(await handlerOf(apollo, admitted)), () => apollo.stop());
