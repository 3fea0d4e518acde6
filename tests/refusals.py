"""The refusals by name, and what each dialect promises to say: the one place in the tests with these texts.

`test_refusals.py` holds the service to them. All other tests name a refusal, and take its words from the service's own
tables: a message that is changed fails the test that is about it, and no other.
"""

import functools
import json
import re
from typing import NamedTuple

from werkzeug import exceptions as http

from authsvc import errors
from authsvc.web import acc_admin, api_auth
from authsvc.web.bodies import IncompleteBody
from authsvc.web.request import CrossSite, UnreadableBody

Verdict = tuple[int, str | None]
"""A status and its reason, or a code and its message."""


class Refused(NamedTuple):
    """What `/api/auth` says, and what `/AccAdmin` does; `{}` stands for a detail, such as the seconds to wait."""

    auth: Verdict
    console: Verdict

    @property
    def message(self) -> str:
        """The text of `/AccAdmin`."""
        return str(self.console[1])

    @property
    def reason(self) -> str:
        """The text of `/api/auth`."""
        return str(self.auth[1])

    def of(self, detail: object) -> "Refused":
        """The same with its detail."""
        (status, _), (code, _) = self
        return Refused((status, self.reason.format(detail)), (code, self.message.format(detail)))


def told(kind: type[Exception]) -> Refused:
    """What the service's own tables say of a refusal."""
    rows = (
        next(module.REFUSALS[base] for base in kind.__mro__ if base in module.REFUSALS)
        for module in (api_auth, acc_admin)
    )
    return Refused(*((status, re.sub(r"\{.*?\}", "{}", text)) for status, text in rows))


PROMISED: dict[type[Exception], Refused] = {}
"""Each by the error that is raised for it."""


def _promise(kind: type[Exception], auth: Verdict, console: Verdict) -> Refused:
    PROMISED[kind] = Refused(auth, console)
    return told(kind)


GRANTED: tuple[Verdict, Verdict] = (200, None), (200, "ok")
"""No refusal."""

_UNUSABLE, _UNKNOWN, _TROUBLE = (500, "参数错误"), (401, "未登录，请登录后再次访问"), (500, "系统繁忙，请稍后再试")

BAD_PARAMETER = _promise(errors.BadParameter, (400, "Parameter {}."), _UNUSABLE)
ABSENT_PARAMETER = _promise(errors.AbsentParameter, BAD_PARAMETER.auth, (500, "请提供key与password参数"))
UNREADABLE_BODY = _promise(UnreadableBody, (400, "Body is not a JSON object."), _UNUSABLE)
INCOMPLETE_BODY = _promise(IncompleteBody, (400, "Body is incomplete."), _UNUSABLE)
WRONG_CREDENTIALS = _promise(errors.WrongCredentials, (403, "Wrong username or password."), (500, "账号或密码错误"))
CODE_REQUIRED = _promise(errors.CodeRequired, (403, "One-time code is required."), (500, "请提供二步验证码"))
WRONG_CODE = _promise(errors.WrongCode, (403, "Wrong one-time code."), (500, "二步验证码错误"))
ACCOUNT_DISABLED = _promise(
    errors.AccountDisabled, (403, "Account is disabled."), (500, "此账号已被禁用，如有疑问，请联系管理员")
)
CROSS_SITE = _promise(CrossSite, (403, "Request comes from another site."), (403, "跨站请求被拒绝"))
PERMISSION_MISSING = _promise(errors.PermissionMissing, (403, "Permission is missing."), _TROUBLE)
TOKEN_MISSING = _promise(errors.TokenMissing, (403, "Token is missing."), _UNKNOWN)
TOKEN_INVALID = _promise(errors.TokenInvalid, (403, "Token is invalid."), _UNKNOWN)
TOKEN_EXPIRED = _promise(errors.TokenExpired, (403, "Token is expires."), _UNKNOWN)
TOKEN_REVOKED = _promise(errors.TokenRevoked, (403, "Token is revoked."), _UNKNOWN)
THROTTLED = _promise(
    errors.Throttled,
    (429, "Too many failed logins. Try again in {} seconds."),
    (500, "登录失败次数过多，请 {} 秒后再试"),
)
BUSY = _promise(errors.Busy, (503, "Service is busy."), _TROUBLE)
UNAVAILABLE = _promise(errors.Unavailable, (503, "Service is unavailable."), _TROUBLE)
BAD_REQUEST = _promise(http.BadRequest, (400, "Request cannot be read."), _TROUBLE)
UNKNOWN_PATH = _promise(http.NotFound, (404, "Path is unknown."), (404, "接口不存在"))
WRONG_METHOD = _promise(http.MethodNotAllowed, (405, "Method is not allowed."), (500, "不支持的请求方式"))
NO_LENGTH = _promise(http.LengthRequired, (411, "Body has no length."), _UNUSABLE)
TOO_LARGE = _promise(http.RequestEntityTooLarge, (413, "Body is longer than 16 KiB."), _UNUSABLE)
WRONG_TYPE = _promise(http.UnsupportedMediaType, (415, "Body is neither a form nor JSON."), _UNUSABLE)
DEFECT = _promise(Exception, (500, "Something went wrong."), _TROUBLE)


@functools.cache
def _changed() -> list[tuple[re.Pattern[str], str]]:
    pairs = {pair for kind, promised in PROMISED.items() for pair in zip(told(kind), promised, strict=True)}
    texts = [[json.dumps(text, ensure_ascii=False) for _, text in pair] for pair in pairs]
    return [
        (re.compile(re.escape(here).replace(r"\{\}", "(.*?)")), promised.replace("{}", r"\1"))
        for here, promised in texts
        if here != promised
    ]


def as_promised(body: str) -> str:
    """The JSON of an answer, each changed message replaced by the promised one, which is what openapi.json quotes."""
    for here, promised in _changed():
        body = here.sub(promised, body)
    return body
