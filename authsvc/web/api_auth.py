"""The `/api/auth` dialect, as the OpenBMCLAPI dashboard speaks it: the HTTP status is the verdict."""

from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import quote

from flask import Blueprint, Response, request
from werkzeug.exceptions import BadRequest, MethodNotAllowed, NotFound, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.http import HTTP_STATUS_CODES

from authsvc import errors
from authsvc.identifiers import by_name
from authsvc.repository import Account
from authsvc.web.envelope import answer, row_for
from authsvc.web.incoming import TOKEN_NAME, Parameters, client, refuse_other_sites, service, token, whoami

blueprint = Blueprint("api_auth", __name__, url_prefix="/api/auth")

REFUSALS: dict[type[BaseException], tuple[int, str]] = {
    errors.BadParameter: (400, "Parameter {}."),
    errors.UnreadableBody: (400, "Body is not a JSON object."),
    errors.WrongCredentials: (403, "Wrong username or password."),
    errors.CodeRequired: (403, "One-time code is required."),
    errors.WrongCode: (403, "Wrong one-time code."),
    errors.AccountDisabled: (403, "Account is disabled."),
    errors.CrossSite: (403, "Request comes from another site."),
    errors.PermissionMissing: (403, "Permission is missing."),
    errors.TokenMissing: (403, "Token is missing."),
    errors.TokenInvalid: (403, "Token is invalid."),
    errors.TokenExpired: (403, "Token is expires."),
    errors.TokenRevoked: (403, "Token is revoked."),
    errors.Throttled: (429, "Too many failed logins. Try again in {.retry_after} seconds."),
    errors.Busy: (503, "Service is busy."),
    errors.Unavailable: (503, "Service is unavailable."),
    BadRequest: (400, "Request cannot be read."),
    NotFound: (404, "Path is unknown."),
    MethodNotAllowed: (405, "Method is not allowed."),
    RequestEntityTooLarge: (413, "Body is longer than 16 KiB."),
    UnsupportedMediaType: (415, "Body is neither a form nor JSON."),
    BaseException: (500, "Something went wrong."),
}
"""Each refusal's status and reason; `{}` stands for what the refusal says of itself."""


def refuse(error: BaseException, status: int | None = None) -> Response:
    """The answer to a refusal; `status` where an endpoint departs from the table."""
    listed, reason = row_for(error, REFUSALS)
    code = status or listed
    return answer({"code": code, "msg": HTTP_STATUS_CODES[code], "data": {"reason": reason.format(error)}}, code)


@blueprint.route("/login", methods=["GET", "POST"])
def login() -> Response:
    """Open a session; or, with a token and neither name nor password, tell whose it is."""
    refuse_other_sites()
    parameters, presented = Parameters(), token()
    if presented and "username" not in parameters and "password" not in parameters:
        return answer(_described(service().whoami(presented)))
    username, password = parameters.required("username"), parameters.required("password")
    code = parameters.optional("otp_code")
    account, new_token = service().login(by_name(username), password, code, client=client(), token=presented)
    response = answer(_described(account))
    response.headers[TOKEN_NAME] = new_token
    response.set_cookie(TOKEN_NAME, new_token, httponly=True, samesite="Lax", secure=request.is_secure)
    return response


@blueprint.route("/logout", methods=["GET", "POST"])
def logout() -> Response:
    """End the session; without a token there is nothing to end."""
    refuse_other_sites()
    try:
        service().logout(token())
        response = answer({"code": 200})
    except errors.TokenMissing:
        response = answer({"code": 200})
    except errors.TokenRefused as refusal:
        response = refuse(refusal)
    response.delete_cookie(TOKEN_NAME, httponly=True, samesite="Lax", secure=request.is_secure)
    return response


@blueprint.route("/verify", methods=["GET", "HEAD"])
def verify() -> Response:
    """Tell an internal service, or nginx's auth_request, whose session this is and whether it may."""
    try:
        account = whoami()
    except errors.TokenRefused as refusal:
        response = refuse(refusal, HTTPStatus.UNAUTHORIZED)
        response.headers["WWW-Authenticate"] = "Bearer"
        return response
    parameters = Parameters()
    if "permission" in parameters and parameters.required("permission") not in account.permissions:
        raise errors.PermissionMissing(account_id=account.id)
    body, headers = verified(account)
    return answer(body, headers=headers)


def verified(account: Account) -> tuple[Mapping[str, object], Mapping[str, str]]:
    """What `verify` answers for a live session: body and headers."""
    return _described(account), {
        "Remote-Id": str(account.id),
        "Remote-User": _header_text(account.name),
        "Remote-Role": _header_text(account.role_code),
    }


@blueprint.route("/password", methods=["POST"])
def password() -> Response:
    """Change the own password; every other session of the account ends."""
    refuse_other_sites()
    presented = token()
    service().whoami(presented)  # without a live session nothing else matters
    parameters = Parameters()
    present, new = parameters.required("password"), parameters.required("new_password")
    service().change_password(presented, present, new, client())
    return answer({"code": 200})


def _described(account: Account) -> dict[str, object]:
    return {
        "code": 200,
        "data": {
            "id": account.id,
            "username": account.name,
            "disabled": account.disabled,
            "role": account.role_code,
            "permission": account.permission,
            "otp": account.otp,
        },
    }


def _header_text(value: str) -> str:
    if value.isascii() and "%" not in value:
        return value
    # "%" is encoded too: or else two accounts, one of them named like the encoding of the other, would look alike.
    return quote(value, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")
