"""The routes: TensorFlow Serving's REST API, pictures for browsers, and what operators ask."""

import asyncio
import concurrent.futures
import contextlib
from collections.abc import AsyncIterator

from ml_collections import ConfigDict
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from holotf import surface
from holotf.pictures import depth_pictures
from holotf.serving import openapi, page, pictures, tensors
from holotf.serving.exported import Exported
from holotf.serving.gate import Gate, error
from holotf.serving.metrics import Metrics
from holotf.serving.service import Service

MIB = 1 << 20
# A picture is a function of its address until the model is exported anew and the server restarted.
_CACHED = {"Cache-Control": "max-age=60"}


class _Name(Convertor):
    """A model's name: of TensorFlow Serving's addresses, without what ends it there."""

    regex = "[^/:]+"

    def convert(self, value):
        return value

    def to_string(self, value):
        return value


class _Version(Convertor):
    regex = "[0-9]{1,18}"  # of int64

    def convert(self, value):
        return int(value)

    def to_string(self, value):
        return str(value)


register_url_convertor("model", _Name())
register_url_convertor("version", _Version())


def build(exported: Exported, settings: ConfigDict) -> Starlette:
    """The ASGI application.

    Args:
      exported: the model it serves.
      settings: `config.serve`.
    """
    return _Api(exported, settings).application()


class _Api:
    def __init__(self, exported, settings):
        self._exported, self._settings = exported, settings
        self._metrics, self._service = Metrics(), None
        self._convert = concurrent.futures.ThreadPoolExecutor(2, "convert")  # what is large would hold everybody up
        self._description = openapi.describe(exported, settings)

    def application(self):
        cors = self._settings.cors
        gate = Middleware(
            Gate,
            queue=self._settings.queue,
            body_bytes=int(self._settings.body_mib * MIB),
            timeout_s=self._settings.timeout_s,
            metrics=self._metrics,
        )
        allowed = Middleware(CORSMiddleware, allow_origins=[cors], allow_methods=["GET", "POST"], allow_headers=["Content-Type"])
        return Starlette(
            routes=[*self._of_the_model(), *self._of_the_server(), *page.routes()],
            middleware=[allowed, gate] if cors else [gate],
            exception_handlers={HTTPException: _refused, Exception: _broke},
            lifespan=self._lifespan,
        )

    def _of_the_model(self):
        whole = "/v1/models/{name:model}"
        for base in (whole, whole + "/versions/{version:version}"):
            yield Route(base + ":predict", self.predict, methods=["POST"])
            yield Route(base + "/metadata", self.metadata)
            yield Route(base + "/card", self.card)
            yield Route(base + "/image", self.image, methods=["GET", "POST"])
            yield Route(base + "/turntable", self.turntable, methods=["GET", "POST"])
            yield Route(base + "/mesh", self.mesh, methods=["GET", "POST"])
            yield Route(base, self.status)

    def _of_the_server(self):
        yield Route("/healthz", self.healthz)
        yield Route("/metrics", self.metrics)
        yield Route("/openapi.json", self.openapi)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        s = self._settings
        self._service = Service(self._exported, s.batch, s.wait_ms / 1000, int(s.volumes_mib * MIB), self._metrics)
        yield
        await self._service.close()
        self._convert.shutdown()

    async def _aside(self, function, *arguments):
        return await asyncio.get_running_loop().run_in_executor(self._convert, function, *arguments)

    # --- TensorFlow Serving's

    async def predict(self, request: Request) -> Response:
        self._check_model(request)
        asked = await self._aside(tensors.read, await request.body(), self._exported.endpoints)
        outputs = await self._service.predict(asked.endpoint, asked.feeds)
        return Response(await self._aside(tensors.write, outputs, asked.in_rows), media_type="application/json")

    async def status(self, request: Request) -> Response:
        name, version = request.path_params["name"], request.path_params.get("version")
        if name != self._exported.name:
            raise HTTPException(404, f"Could not find any versions of model {name}")
        if version not in (None, self._exported.version):
            raise HTTPException(404, f"Could not find version {version} of model {name}")
        told = {"version": str(self._exported.version), "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        return JSONResponse({"model_version_status": [told]})

    async def metadata(self, request: Request) -> Response:
        self._check_model(request)
        spec = {"name": self._exported.name, "signature_name": "", "version": str(self._exported.version)}
        # A map in a message in a map: TensorFlow Serving's SignatureDefMap.
        metadata = {"signature_def": {"signature_def": self._exported.signature_def}}
        return JSONResponse({"model_spec": spec, "metadata": metadata})

    def _check_model(self, request):
        name, version = request.path_params["name"], request.path_params.get("version")
        if name != self._exported.name or version not in (None, self._exported.version):
            wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise HTTPException(404, f"Servable not found for request: {wanted}")

    # --- for browsers

    async def card(self, request: Request) -> Response:
        self._check_model(request)
        return JSONResponse(self._exported.card)

    async def image(self, request: Request) -> Response:
        return await self._picture(request, pictures.image)

    async def turntable(self, request: Request) -> Response:
        return await self._picture(request, pictures.film)

    async def mesh(self, request: Request) -> Response:
        asked = pictures.of_mesh(await self._told(request), self._exported)
        if not await self._aside(surface.available):
            raise HTTPException(501, "no meshes: pip install 'holotf[mesh]' where the server runs")
        found = await self._aside(surface.mesh, *await self._service.measured(await self._latent(*asked)))
        if found is None:
            raise HTTPException(400, "no surface was found in this object")
        return _file(request, found, "model/gltf-binary")

    async def _picture(self, request, read):
        asked = read(await self._told(request), self._exported)
        z = await self._latent(asked.seed, asked.z)
        if asked.show == "depth":
            size = self._exported.card["model"]["image_size"]
            images = await self._aside(depth_pictures, await self._service.depths(z, asked.others), size)
        else:
            images = await self._service.pictures(z, asked.others)
        return _file(request, await self._aside(pictures.encoded, images, asked), f"image/{asked.format}")

    async def _told(self, request):
        """What a request for a file says, in its address or as JSON."""
        self._check_model(request)
        if self._exported.pictured is None:
            raise HTTPException(400, "this model makes no images of latents: its card has no such endpoint")
        return dict(request.query_params) if request.method != "POST" else tensors.parse(await request.body())

    async def _latent(self, seed, z):
        return z if seed is None else await self._service.latent(seed)

    # --- for operators

    async def healthz(self, request: Request) -> Response:
        return JSONResponse({"status": "ok", "model": self._exported.name, "version": str(self._exported.version)})

    async def metrics(self, request: Request) -> Response:
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(self._description)


def _file(request, content, media_type):
    headers = _CACHED if request.method != "POST" else {"Cache-Control": "no-store"}
    return Response(content, headers=headers, media_type=media_type)


async def _refused(request, refused):
    message, status = refused.detail, refused.status_code
    if status in (404, 405) and message in ("Not Found", "Method Not Allowed"):  # Starlette's own
        message = f"Malformed request: {request.method} {request.url.path}"
        status = 400 if status == 404 and request.url.path.startswith("/v1/") else status  # as TensorFlow Serving has it
    return error(status, message, refused.headers)


async def _broke(request, broke):
    return error(500, f"{type(broke).__name__}; the server's log says more")
