package worker

import (
	"context"
	"errors"
	"slices"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"hsmsweep/deletion"
	"hsmsweep/queue"
)

// ends are the words for the four kinds of ends, by the event that tells of them.
var ends = map[string]string{typeCompleted: "completed", typeSkipped: "skipped", typeExpanded: "expanded", typeFailed: "failed"}

// Kind is the kind of end that an outcome is: completed, skipped, expanded or failed; empty where it is none.
func (r Reason) Kind() string { return ends[eventTypes[r]] }

// labelledCodes are the error codes that are labels: this program's own, and those of ARM that somebody acts upon. ARM has others
// without number, and a forged state any text at all.
var labelledCodes = setOf(
	CodeInvalidRequest, CodeUnsupportedEvent, CodeNoSearchScope, CodeRequestTooLarge, CodeOutOfScope, CodeTimedOut, CodeTooManyDeliveries,
	CodeMessageExpired, CodeStillPresent, CodeMayBeDeleted, CodeInternalError, deletion.CodeUntrusted, "NoAnswer", "NoToken",
	"ScopeLocked", "AuthorizationFailed", "RequestDisallowedByPolicy", "MissingSubscriptionRegistration", "ReadOnlyDisabledSubscription",
	"SubscriptionNotFound", "InvalidSubscriptionId", "InvalidResourceType", "NoRegisteredProviderFound",
	"ResourceNotFound", "ParentResourceNotFound", "ResourceGroupNotFound", "OperationFailed", "OperationCanceled",
	"BadRequest", "Unauthorized", "Forbidden", "NotFound", "Conflict", "TooManyRequests",
)

func setOf(words ...string) map[string]bool {
	set := make(map[string]bool, len(words))
	for _, w := range words {
		set[w] = true
	}
	return set
}

// codeLabel is an error code as a label.
func codeLabel(code string) string {
	switch {
	case code == "":
		return "none"
	case labelledCodes[code]:
		return code
	}
	return "other"
}

// whyLabel is why a request waits. A forged state may have any text there, which a step that waits on hands on.
func whyLabel(why Reason) string {
	if slices.Contains(WaitReasons, why) {
		return string(why)
	}
	return "other"
}

// failureLabel is error.type of what Service Bus did not do: the SDK's own few codes, or why there was no answer.
func failureLabel(err error) string {
	sbErr, ok := errors.AsType[*azservicebus.Error](err)
	switch {
	case errors.Is(err, queue.ErrLockLost):
		return string(azservicebus.CodeLockLost)
	case ok && brokerCodes[string(sbErr.Code)]:
		return string(sbErr.Code)
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "canceled"
	}
	return "_OTHER"
}

var brokerCodes = setOf(string(azservicebus.CodeUnauthorizedAccess), string(azservicebus.CodeConnectionLost), string(azservicebus.CodeLockLost),
	string(azservicebus.CodeTimeout), string(azservicebus.CodeNotFound), string(azservicebus.CodeClosed))

// reclaimLabel is why the broker gave a message up.
func reclaimLabel(deadLetterReason string) string {
	if deadLetterReason == reasonExpired {
		return "expired"
	}
	return "deliveries"
}

// stepFailure is error.type of a step: the code of a failed end, or that the step was not finished; empty where all went well.
func stepFailure(v Verdict) string {
	switch {
	case v.Cause != nil:
		return string(v.Reason)
	case v.End != nil && v.End.failed():
		return codeLabel(v.End.Code)
	}
	return ""
}
