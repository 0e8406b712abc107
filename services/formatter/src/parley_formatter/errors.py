"""Errors of the formatter. All but the last two are the caller's to repair; none is worth a retry.

ServiceError
├── UnknownPromptError      no prompt of that name
├── UnknownDialectError     no dialect of that name
├── InvalidLimitsError      limits above the dialect's own, or too small to hold anything
├── InvalidStreamError      a streamed rendering that doesn't begin with its start, or has two
├── InvalidVariablesError   a variable that is not declared, or one without a value
├── InvalidPartsError       nothing to ask
├── BudgetTooSmallError     the prompt's own text does not fit the budget
└── PromptFailedError       the prompt file failed while it was filled in: the operator must act
"""

from __future__ import annotations

import grpc
from parley_common.errors import ServiceError


class UnknownPromptError(ServiceError):
    """There is no prompt of that name."""

    code = grpc.StatusCode.NOT_FOUND
    reason = "PROMPT_NOT_FOUND"


class UnknownDialectError(ServiceError):
    """There is no dialect of that name."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "UNKNOWN_DIALECT"


class InvalidLimitsError(ServiceError):
    """A limit is above the dialect's own, or too small to hold anything."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_LIMITS"


class InvalidStreamError(ServiceError):
    """The steps of a streamed rendering are out of order."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_STREAM"


class InvalidVariablesError(ServiceError):
    """A variable is not declared by the prompt, or has neither a value nor a default."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "INVALID_VARIABLES"


class InvalidPartsError(ServiceError):
    """The new parts hold nothing to ask."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "EMPTY_QUESTION"


class BudgetTooSmallError(ServiceError):
    """The prompt's own text leaves no room for a question."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    reason = "BUDGET_TOO_SMALL"


class PromptFailedError(ServiceError):
    """The prompt's template failed while it was filled in."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    reason = "PROMPT_FAILED"
