"""The `/api/auth` dialect, as the OpenBMCLAPI dashboard speaks it: the HTTP status is the verdict."""

from datetime import UTC, datetime
from urllib.parse import quote

import segno
from flask import Blueprint, Response, after_this_request
from werkzeug import exceptions
from werkzeug.http import HTTP_STATUS_CODES

from authsvc import errors
from authsvc.accounts import Account
from authsvc.config import Config
from authsvc.identifiers import by_name
from authsvc.own_account import handle
from authsvc.parts import parts
from authsvc.sessions import LiveSession
from authsvc.web.bodies import IncompleteBody
from authsvc.web.request import (
    TOKEN_NAME,
    CrossSite,
    Parameters,
    UnreadableBody,
    client,
    refuse_other_sites,
    token,
    whoami,
)
from authsvc.web.responses import Answer, Check, clear_token, nearest, set_token

blueprint = Blueprint("api_auth", __name__, url_prefix="/api/auth")
PREFIXES = ("/api/auth",)

REFUSALS: dict[type[Exception], tuple[int, str]] = {
    errors.BadParameter: (400, "Parameter {}."),
    UnreadableBody: (400, "Body is not a JSON object."),
    IncompleteBody: (400, "Body is incomplete."),
    errors.WrongCredentials: (403, "Wrong username or password."),
    errors.CodeRequired: (403, "One-time code is required."),
    errors.WrongCode: (403, "Wrong one-time code."),
    errors.AccountDisabled: (403, "Account is disabled."),
    CrossSite: (403, "Request comes from another site."),
    errors.OtpIsOn: (400, "Two-step verification is on."),
    errors.OtpIsOff: (400, "Two-step verification is off."),
    errors.OtpNotBegun: (400, "Two-step verification was not begun."),
    errors.PermissionMissing: (403, "Permission is missing."),
    errors.TokenMissing: (403, "Token is missing."),
    errors.TokenInvalid: (403, "Token is invalid."),
    errors.TokenExpired: (403, "Token is expires."),  # the document's spelling
    errors.TokenRevoked: (403, "Token is revoked."),
    errors.Throttled: (429, "Too many failed logins. Try again in {.retry_after} seconds."),
    errors.Busy: (503, "Service is busy."),
    errors.Unavailable: (503, "Service is unavailable."),
    exceptions.BadRequest: (400, "Request cannot be read."),
    exceptions.NotFound: (404, "Path is unknown."),
    exceptions.MethodNotAllowed: (405, "Method is not allowed."),
    exceptions.LengthRequired: (411, "Body has no length."),
    exceptions.RequestEntityTooLarge: (413, "Body is longer than 16 KiB."),
    exceptions.UnsupportedMediaType: (415, "Body is neither a form nor JSON."),
    Exception: (500, "Something went wrong."),
}
"""Each refusal's status and reason; `{}` stands for what the refusal says of itself."""


def refuse(error: Exception, path: str) -> Answer:
    """The answer to a refusal: what the table says, but to `verify` a bad token is 401 (RFC 9110, section 15.5.2)."""
    status, reason = nearest(error, REFUSALS)
    headers = {}
    if path == _VERIFY and isinstance(error, errors.TokenRefused):
        status, headers = 401, {"WWW-Authenticate": "Bearer"}
    body = {"code": status, "msg": HTTP_STATUS_CODES[status], "data": {"reason": reason.format(error)}}
    return Answer(status, body, headers)


@blueprint.route("/login", methods=["GET", "POST"])
def login() -> Response:
    """Open a session; or, with a token and neither name nor password, tell whose it is."""
    refuse_other_sites()
    parameters, presented = Parameters(), token()
    if presented and "username" not in parameters and "password" not in parameters:
        return _described(parts().service.whoami(presented).account).response()
    username, password = parameters.required("username"), parameters.required("password")
    code = parameters.optional("otp_code")
    live, new_token = parts().service.login(by_name(username), password, code, client=client(), token=presented)
    return _with_token(_described(live.account), new_token)


@blueprint.route("/logout", methods=["GET", "POST"])
def logout() -> Response:
    """End the session; without a token there is nothing to end."""
    refuse_other_sites()
    try:
        parts().service.logout(token())
    except errors.TokenMissing:
        pass
    except errors.TokenRefused:
        after_this_request(clear_token)
        raise
    return clear_token(_DONE.response())


@blueprint.route("/verify", methods=["GET", "HEAD"])
def verify() -> Response:
    """Tell an internal service, or nginx's auth_request, whose session this is and whether it may."""
    live = whoami()
    parameters = Parameters()
    if "permission" in parameters:
        parts().service.authorize(live, parameters.required("permission"))
    return verified(live, parts().config).response()


def verified(live: LiveSession, _config: Config) -> Answer:
    """What `verify` answers to a live session."""
    account = live.account
    headers = {
        "Remote-Id": str(account.id),
        "Remote-User": _header_text(account.name),
        "Remote-Role": _header_text(account.role_code),
    }
    return _described(account)._replace(headers=headers)


_VERIFY = "/api/auth/verify"
CHECKS: dict[tuple[str, str], Check] = {("GET", _VERIFY): verified}
"""What the fast path may answer."""


@blueprint.route("/password", methods=["POST"])
def password() -> Response:
    """Change the own password; every session of the account ends, and a new one goes on."""
    live, parameters = _owner()
    present, new = parameters.required("password"), parameters.required("new_password")
    code = parameters.optional("otp_code")
    return _with_token(_DONE, parts().own_account.change_password(live, present, new, code, client()))


@blueprint.route("/sessions", methods=["GET"])
def sessions() -> Response:
    """List the account's live sessions."""
    live = whoami()
    listed = [
        {
            "id": handle(session),
            "opened": _time(session.opened_at),
            "last_seen": _time(session.last_seen_at),
            "ends": _time(session.ends_at),
            "address": session.address,
            "user_agent": session.user_agent,
            "current": session.id_hash == live.session.id_hash,
        }
        for session in parts().own_account.sessions(live)
    ]
    return _ok({"sessions": listed}).response()


@blueprint.route("/sessions/end", methods=["POST"])
def end_sessions() -> Response:
    """End one session of the account, or all others."""
    live, parameters = _owner()
    present, wanted = parameters.required("password"), parameters.required("session")
    own_account = parts().own_account
    if wanted == "others":
        ended = own_account.end_other_sessions(live, present, client())
    else:
        ended = int(own_account.end_session(live, present, wanted, client()))
    response = _ok({"ended": ended}).response()
    return clear_token(response) if ended and wanted == handle(live.session) else response


@blueprint.route("/otp", methods=["POST"])
def begin_otp() -> Response:
    """Begin two-step verification."""
    live, parameters = _owner()
    pending = parts().own_account.begin_otp(live, parameters.required("password"), client())
    picture = segno.make(pending.uri, micro=False).svg_data_uri(scale=4, border=4, light="white")
    return _ok({"secret": pending.seed, "uri": pending.uri, "qr": picture}).response()


@blueprint.route("/otp/confirm", methods=["POST"])
def confirm_otp() -> Response:
    """Put it in force."""
    live, parameters = _owner()
    codes = parts().own_account.confirm_otp(live, parameters.required("otp_code"), client())
    return _ok({"recovery_codes": codes}).response()


@blueprint.route("/otp/recovery", methods=["POST"])
def renew_recovery_codes() -> Response:
    """Hand out new recovery codes."""
    live, parameters = _owner()
    present, code = parameters.required("password"), parameters.optional("otp_code")
    codes = parts().own_account.renew_recovery_codes(live, present, code, client())
    return _ok({"recovery_codes": codes}).response()


@blueprint.route("/otp/off", methods=["POST"])
def disable_otp() -> Response:
    """Turn two-step verification off."""
    live, parameters = _owner()
    present, code = parameters.required("password"), parameters.optional("otp_code")
    parts().own_account.disable_otp(live, present, code, client())
    return _DONE.response()


def _owner() -> tuple[LiveSession, Parameters]:
    """Who asks, and for what; without a live session nothing else matters."""
    refuse_other_sites()
    return whoami(), Parameters()


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _ok(data: dict[str, object]) -> Answer:
    return Answer(200, {"code": 200, "data": data})


_DONE = Answer(200, {"code": 200})


def _with_token(answer: Answer, new_token: str) -> Response:
    response = set_token(answer.response(), new_token, "Lax")
    # For callers without a cookie jar, as there is no token in the body.
    response.headers[TOKEN_NAME] = new_token
    return response


def _described(account: Account) -> Answer:
    data = {
        "id": account.id,
        "username": account.name,
        "disabled": account.disabled,
        "role": account.role_code,
        "permission": account.permission,
        "otp": account.otp,
    }
    return _ok(data)


def _header_text(value: str) -> str:
    if value.isascii() and "%" not in value:
        return value
    # "%" is encoded too: or else two accounts, one of them named like the encoding of the other, would look alike.
    return quote(value, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")
