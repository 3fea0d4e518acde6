"""What the application is made of, for whoever serves it: the web, the command line, the server."""

from dataclasses import dataclass
from typing import cast

from flask import Flask, current_app

from authsvc.administration import Administration
from authsvc.config import Config
from authsvc.metrics import Metrics
from authsvc.own_account import OwnAccount
from authsvc.service import Service
from authsvc.store.database import Database
from authsvc.transfer import Transfer
from authsvc.upkeep import Upkeep

_NAME = "authsvc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """One application's."""

    version: str
    config: Config
    metrics: Metrics
    database: Database
    service: Service
    own_account: OwnAccount
    administration: Administration
    transfer: Transfer
    upkeep: Upkeep

    def init_app(self, app: Flask) -> None:
        """Be those of `app`."""
        app.extensions[_NAME] = self


def parts(app: Flask | None = None) -> Parts:
    """Those of `app`, or of the application that handles this request or command."""
    return cast(Parts, (app or current_app).extensions[_NAME])
