"""The `/AccAdmin` dialect, as the sa-plus console speaks it: HTTP 200, and the verdict is `code` in the body."""

from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from flask import Blueprint, Response
from werkzeug.exceptions import MethodNotAllowed, NotFound, RequestEntityTooLarge, UnsupportedMediaType

from authsvc import errors
from authsvc.identifiers import parse_key
from authsvc.repository import Account
from authsvc.web.envelope import answer, row_for
from authsvc.web.incoming import TOKEN_NAME, Parameters, client, config, refuse_other_sites, service, token, whoami

blueprint = Blueprint("acc_admin", __name__, url_prefix="/AccAdmin")

REFUSALS: dict[type[BaseException], tuple[int, str]] = {
    errors.AbsentParameter: (500, "请提供key与password参数"),
    errors.BadParameter: (500, "参数错误"),
    errors.UnreadableBody: (500, "参数错误"),
    errors.WrongCredentials: (500, "账号或密码错误"),
    errors.CodeRequired: (500, "请提供二步验证码"),
    errors.WrongCode: (500, "二步验证码错误"),
    errors.Throttled: (500, "登录失败次数过多，请 {.retry_after} 秒后再试"),
    errors.AccountDisabled: (500, "此账号已被禁用，如有疑问，请联系管理员"),
    errors.CrossSite: (403, "跨站请求被拒绝"),
    errors.TokenRefused: (401, "未登录，请登录后再次访问"),
    NotFound: (404, "接口不存在"),
    MethodNotAllowed: (500, "不支持的请求方式"),
    RequestEntityTooLarge: (500, "参数错误"),
    UnsupportedMediaType: (500, "参数错误"),
    BaseException: (500, "系统繁忙，请稍后再试"),
}
"""Each refusal's code and message; `{}` stands for the refusal."""


def refuse(error: BaseException) -> Response:
    """The answer to a refusal. The console breaks on any HTTP status but 200; nginx needs one to try elsewhere."""
    code, message = row_for(error, REFUSALS)
    status = 503 if isinstance(error, errors.Unavailable | errors.Busy) else 200
    return _answer(code, message.format(error), None, status)


@blueprint.route("/doLogin", methods=["GET", "POST"])
def do_login() -> Response:
    """Open a session for an id, a name or a phone."""
    refuse_other_sites()
    parameters = Parameters()
    key, password = parameters.required("key"), parameters.required("password")
    code = parameters.optional("otp_code")
    account, new_token = service().login(parse_key(key), password, code, client=client(), token=token())
    token_info = {"tokenName": TOKEN_NAME, "tokenValue": new_token}
    return _answer(200, "ok", {**_described(account, config().timezone), "tokenInfo": token_info})


@blueprint.route("/doExit", methods=["GET", "POST"])
def do_exit() -> Response:
    """End the session, if there is one."""
    refuse_other_sites()
    try:
        service().logout(token())
    except errors.TokenRefused:
        pass
    return _answer(200, "ok", None)


@blueprint.route("/getLoginInfo", methods=["GET", "POST"])
def get_login_info() -> Response:
    """Tell whose session this is, and what the console needs to draw itself."""
    body, _ = logged_in(whoami(), config().timezone)
    return answer(body)


def logged_in(account: Account, timezone: ZoneInfo) -> tuple[Mapping[str, object], Mapping[str, str]]:
    """What `getLoginInfo` answers for a live session: body and headers."""
    return _body(200, "ok", _described(account, timezone)), {}


def _answer(code: int, message: str, data: object, status: int = 200) -> Response:
    return answer(_body(code, message, data), status)


def _body(code: int, message: str, data: object) -> Mapping[str, object]:
    return {"code": code, "msg": message, "data": data}


def _described(account: Account, timezone: ZoneInfo) -> dict[str, object]:
    return {
        "admin": {
            "id": account.id,
            "name": account.name,
            "avatar": account.avatar,
            "password": "********",
            "phone": account.phone,
            "roleId": account.role_id,
            "status": 2 if account.disabled else 1,
            "createByAid": -1 if account.created_by is None else account.created_by,
            "createTime": _local_time(account.created_at, timezone),
            "loginTime": _local_time(account.login_at, timezone),
            "loginIp": account.login_address,
            "loginCount": account.login_count,
            "roleName": account.role_name,
        },
        "appCfg": account.appcfg,
        "perList": account.permissions,
    }


def _local_time(at: float | None, timezone: ZoneInfo) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, timezone).strftime("%Y-%m-%d %H:%M:%S")
