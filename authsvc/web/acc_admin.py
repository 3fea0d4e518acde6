"""The `/AccAdmin` dialect, as the sa-plus console speaks it: HTTP 200, and the verdict is `code` in the body."""

from datetime import datetime
from zoneinfo import ZoneInfo

from flask import Blueprint, Response
from werkzeug import exceptions

from authsvc import errors
from authsvc.config import Config
from authsvc.identifiers import parse_key
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

blueprint = Blueprint("acc_admin", __name__)
PREFIXES = ("/AccAdmin", "/AdminPassword")

REFUSALS: dict[type[Exception], tuple[int, str]] = {
    errors.AbsentParameter: (500, "请提供key与password参数"),
    errors.BadParameter: (500, "参数错误"),
    UnreadableBody: (500, "参数错误"),
    IncompleteBody: (500, "参数错误"),
    errors.WrongCredentials: (500, "账号或密码错误"),
    errors.CodeRequired: (500, "请提供二步验证码"),
    errors.WrongCode: (500, "二步验证码错误"),
    errors.Throttled: (500, "登录失败次数过多，请 {.retry_after} 秒后再试"),
    errors.AccountDisabled: (500, "此账号已被禁用，如有疑问，请联系管理员"),
    CrossSite: (403, "跨站请求被拒绝"),
    errors.TokenRefused: (401, "未登录，请登录后再次访问"),
    exceptions.NotFound: (404, "接口不存在"),
    exceptions.MethodNotAllowed: (500, "不支持的请求方式"),
    exceptions.LengthRequired: (500, "参数错误"),
    exceptions.RequestEntityTooLarge: (500, "参数错误"),
    exceptions.UnsupportedMediaType: (500, "参数错误"),
    Exception: (500, "系统繁忙，请稍后再试"),
}
"""Each refusal's code and message; `{}` stands for the refusal."""

_PASSWORD_PAGE = "/AdminPassword/update"  # noqa: S105 - a path
_ON_PASSWORD_PAGE: dict[type[Exception], str] = {
    errors.AbsentParameter: "请提供oldPwd与newPwd参数",
    errors.WrongCredentials: "旧密码输入错误",
}
_REFUSED_PASSWORDS = {
    "length": "新密码太短或太长",
    "characters": "新密码含有无法使用的字符",
    "common": "新密码过于常见，请换一个",
    "context": "新密码与账号、手机号或系统名称过于相近，请换一个",
}


def refuse(error: Exception, path: str) -> Answer:
    """The answer to a refusal. The console breaks on any HTTP status but 200; nginx needs one to try elsewhere."""
    code, message = nearest(error, REFUSALS)
    if path == _PASSWORD_PAGE:
        message = next((text for kind, text in _ON_PASSWORD_PAGE.items() if isinstance(error, kind)), message)
    if isinstance(error, errors.RefusedPassword):
        message = _REFUSED_PASSWORDS[error.kind]
    status = 503 if isinstance(error, errors.Unavailable | errors.Busy) else 200
    return _answer(code, message.format(error), None, status)


@blueprint.route("/AccAdmin/doLogin", methods=["GET", "POST"])
def do_login() -> Response:
    """Open a session for an id, a name or a phone."""
    refuse_other_sites()
    parameters = Parameters()
    key, password = parameters.required("key"), parameters.required("password")
    code = parameters.optional("otp_code")
    live, new_token = parts().service.login(parse_key(key), password, code, client=client(), token=token())
    token_info = {"tokenName": TOKEN_NAME, "tokenValue": new_token}
    answer = _answer(200, "ok", {**_described(live, parts().config.timezone), "tokenInfo": token_info})
    # For what the console loads without its header, and for auth_request.
    return set_token(answer.response(), new_token, "Strict")


@blueprint.route("/AccAdmin/doExit", methods=["GET", "POST"])
def do_exit() -> Response:
    """End the session, if there is one."""
    refuse_other_sites()
    try:
        parts().service.logout(token())
    except errors.TokenRefused:
        pass
    return clear_token(_answer(200, "ok", None).response())


@blueprint.route("/AccAdmin/getLoginInfo", methods=["GET", "POST"])
def get_login_info() -> Response:
    """Tell whose session this is, and what the console needs to draw itself."""
    return logged_in(whoami(), parts().config).response()


@blueprint.route(_PASSWORD_PAGE, methods=["GET", "POST"])
def update_password() -> Response:
    """Change the own password, on the console's own page. It keeps its token, so its session lives on."""
    refuse_other_sites()
    live, parameters = whoami(), Parameters()
    old, new = parameters.required("oldPwd"), parameters.required("newPwd")
    parts().own_account.change_password_and_stay(live, old, new, client())
    return _answer(200, "ok", None).response()


def logged_in(live: LiveSession, config: Config) -> Answer:
    """What `getLoginInfo` answers to a live session."""
    return _answer(200, "ok", _described(live, config.timezone))


CHECKS: dict[tuple[str, str], Check] = {
    ("GET", "/AccAdmin/getLoginInfo"): logged_in,
    ("POST", "/AccAdmin/getLoginInfo"): logged_in,
}
"""What the fast path may answer."""


def _answer(code: int, message: str, data: object, status: int = 200) -> Answer:
    return Answer(status, {"code": code, "msg": message, "data": data})


def _described(live: LiveSession, timezone: ZoneInfo) -> dict[str, object]:
    account = live.account
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
        "appCfg": live.appcfg,
        "perList": account.permissions,
    }


def _local_time(at: float | None, timezone: ZoneInfo) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, timezone).strftime("%Y-%m-%d %H:%M:%S")
