"""One framework, one module: the client's life in the application's, and the routes of its health."""
