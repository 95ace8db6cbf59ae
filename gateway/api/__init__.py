"""HTTP in: the dialects, and the core that they stand on.

How a dialect registers its routes
----------------------------------
A dialect is a package here with a function `routes(services: Services) -> list[Route]`; `gateway.bootstrap.serving` adds
the lists of all dialects together (function `all_routes`: add yours there). A `Route` (module `routing`) is

    Route("POST", "/v2/chat", handler, body=Body.JSON, summary="…", request=ChatBody, …)

and every route needs its row `"POST /v2/chat": roles` in `gateway/policy.py`: the gateway does not start without it.
A handler is `async def handler(call: Call) -> Reply | Stream`, usually a method of a small class that holds the ports it
needs (`services.chat`, `.retrieval`, `.generation`, `.ingestion`, `.keys`, …). When it runs, the caller is known and
allowed, limits are held, the body limit is in force, and calls to rooms carry the caller's token.

* `await call.parse(Model)` reads the JSON body into a pydantic model (errors name the field); `call.query(Model)` does
  the same for the query string; `call.path["file_id"]`, `call.header("accept")`, `call.caller`, `call.request_id`.
* `call.chunks()` streams a raw body (`Body.RAW`); `await call.form()` gives multipart fields and spooled files.
* `json_reply(value, status=200)` answers; `Stream(frames, on_error=…)` streams bytes from an async generator: its first
  frame is awaited before the status line goes out, so that an error before it is an ordinary error answer. The generator
  is closed when the client leaves. Errors after the first frame are handed to `on_error(error) -> bytes`.
* Raise members of `services.chassis.errors`; `errors.py` renders one body that both SDK families read.
* `call.touched(id)` names the object for the audit log; `call.spend(model, usage)` meters tokens.
* `Route(creates=True)` honours `Idempotency-Key`; `secret=True` with it keeps the answer's body out of the database.
"""
