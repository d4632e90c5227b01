// Shows the OpenAPI document of this server. A credential that is entered stays in the page and is sent to this server only.
globalThis.ui = globalThis.SwaggerUIBundle({
  dom_id: "#document",
  url: "openapi.json",
  validatorUrl: null,
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  filter: true,
  tryItOutEnabled: true,
});
