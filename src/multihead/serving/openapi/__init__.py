"""Description of the HTTP interfaces: an OpenAPI document made of the routes and their bodies, and a page of it."""
