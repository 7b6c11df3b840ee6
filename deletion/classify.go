package deletion

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An answer is what ARM said, apart from the connection it came over.
type answer struct {
	status int
	header http.Header
	body   []byte
	at     time.Time // when it came, by its sender's clock: a Retry-After date is relative to it
}

// A question is what ARM was asked.
type question string

const (
	askDelete         question = "delete"
	askLocation       question = "poll Location"
	askAsyncOperation question = "poll Azure-AsyncOperation"
	askRead           question = "read"
)

// unclear is the one meaning that never leaves the package: the answer does not say whether the connection is gone, and only
// reading it back does.
const unclear Kind = "unclear"

// classify says what an answer means. It is pure, and the whole of the knowledge about statuses and codes is here. Sources:
// the operation's documentation, ARM's asynchronous operations, and recorded traffic (where a Location is the connection's
// own URL with a query, answers 202 while it runs, and ends in 204).
func classify(q question, a answer) Outcome {
	out := Outcome{
		HTTPStatus:   a.status,
		ARMRequestID: cut(a.header.Get("X-Ms-Request-Id"), 128),
		RetryAfter:   retryAfter(a.header, a.at),
		Left:         left(q, a.header),
	}
	if a.status < 200 || a.status > 299 {
		out.Code, out.Message = cloudError(a)
		out.Kind = refusal(q, a.status, out.Code)
		return out
	}
	switch q {
	case askDelete:
		switch a.status {
		case http.StatusAccepted:
			out.Kind, out.Operation = Accepted, operation(a.header)
		case http.StatusNoContent:
			out.Kind = Absent
		case http.StatusOK:
			out.Kind = Deleted
		default:
			out.Kind = unclear
		}
	case askLocation:
		switch {
		case a.status == http.StatusAccepted:
			out.Kind, out.Operation = Running, operation(a.header)
		case a.status == http.StatusNoContent || silent(a.body):
			out.Kind = Deleted
		default:
			out.Kind = unclear
		}
	case askAsyncOperation:
		out.Kind, out.Code, out.Message = asyncStatus(a)
		if out.Kind == Running {
			out.Operation = operation(a.header)
		}
	case askRead:
		out.Kind = Present
		if a.status == http.StatusNoContent { // documented for a pool that does not exist
			out.Kind = Absent
		}
	}
	return out
}

// refusal reads a status that is not a success together with CloudError's code.
func refusal(q question, status int, code string) Kind {
	switch {
	case status == http.StatusTooManyRequests:
		return Throttled
	case status == http.StatusRequestTimeout || status >= 500:
		return Unavailable
	case status == http.StatusConflict && !slices.Contains(lastingConflicts, code):
		return Conflict
	case status == http.StatusUnauthorized, status == http.StatusForbidden && code == "AuthorizationFailed":
		return Denied
	case status == http.StatusNotFound || status == http.StatusGone:
		return missing(q, code)
	case q == askLocation || q == askAsyncOperation:
		if status == http.StatusConflict {
			return Rejected // a lock set in the meantime is as final here as it is at the start
		}
		return Failed
	default:
		return Rejected
	}
}

// lastingConflicts are the 409s that waiting does not cure: a management lock, an unregistered provider, a disabled
// subscription. Each needs a person.
var lastingConflicts = []string{"ScopeLocked", "MissingSubscriptionRegistration", "ReadOnlyDisabledSubscription"}

func missing(q question, code string) Kind {
	switch q {
	case askLocation, askAsyncOperation:
		return unclear // the operation's record is gone, which says nothing of the connection
	case askRead:
		// A read that went to a place that cannot exist proves nothing about the connection.
		if slices.Contains([]string{"SubscriptionNotFound", "InvalidSubscriptionId", "InvalidResourceType", "NoRegisteredProviderFound"}, code) {
			return Rejected
		}
		return Absent
	default:
		if slices.Contains([]string{"ResourceNotFound", "ParentResourceNotFound", "ResourceGroupNotFound"}, code) {
			return Absent
		}
		return Rejected
	}
}

// operation finds what to poll, in the order of ARM's documentation.
func operation(h http.Header) Operation {
	for _, name := range []string{"Azure-AsyncOperation", "Operation-Location"} {
		if u := h.Get(name); u != "" {
			return Operation{URL: u, Protocol: AsyncOperation}
		}
	}
	if u := h.Get("Location"); u != "" {
		return Operation{URL: u, Protocol: Location}
	}
	return Operation{Protocol: ReadBack}
}

// asyncStatus reads the body of an Azure-AsyncOperation. A status that is not final is unfinished, whatever the word.
func asyncStatus(a answer) (kind Kind, code, message string) {
	var body struct {
		Status string      `json:"status"`
		Error  errorDetail `json:"error"`
	}
	// A body that is no JSON leaves the status empty, which is unclear as well.
	_ = json.Unmarshal(a.body, &body)
	switch status := strings.ToLower(body.Status); {
	case status == "succeeded":
		return Deleted, "", ""
	case status == "failed" || status == "canceled" || status == "cancelled":
		code, message := body.Error.Code, body.Error.Message
		if code == "" {
			code = map[bool]string{true: "OperationFailed", false: "OperationCanceled"}[status == "failed"]
		}
		if message == "" {
			message = "the operation ended as " + printable(body.Status)
		}
		return Failed, cut(code, 128), cut(message, 2048)
	case status != "" || a.status == http.StatusAccepted:
		return Running, "", ""
	case a.status == http.StatusNoContent:
		return Deleted, "", ""
	default:
		return unclear, "", ""
	}
}

// silent tells whether a polled body says nothing against the end: it is empty, or says that it succeeded. Anything else,
// above all the connection itself, leaves the matter open.
func silent(body []byte) bool {
	var said struct {
		ID         string          `json:"id"`
		Properties json.RawMessage `json:"properties"`
		Status     string          `json:"status"`
	}
	text := strings.TrimSpace(string(body))
	if text == "" || text == "{}" || text == "null" {
		return true
	}
	return json.Unmarshal(body, &said) == nil && strings.EqualFold(said.Status, "Succeeded") && said.ID == "" && said.Properties == nil
}

type errorDetail struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// cloudError finds the code and the message of a refusal: the header x-ms-error-code, then CloudError, then the same two
// without their envelope, then the status. Both are cut to what an event and a dead-letter description can carry.
func cloudError(a answer) (code, message string) {
	var body struct {
		Error errorDetail `json:"error"`
		errorDetail
	}
	_ = json.Unmarshal(a.body, &body) // no JSON, no code: the status stands in
	code = firstOf(a.header.Get("X-Ms-Error-Code"), body.Error.Code, body.Code, statusCode(a.status))
	message = firstOf(body.Error.Message, body.Message, strings.TrimSpace("ARM answered "+strconv.Itoa(a.status)+" "+http.StatusText(a.status)))
	return cut(code, 128), cut(message, 2048)
}

// statusCode makes a code in CloudError's style out of a status: 403 is Forbidden, 503 ServiceUnavailable.
func statusCode(status int) string {
	if text := http.StatusText(status); text != "" {
		return strings.NewReplacer(" ", "", "-", "", "'", "").Replace(text)
	}
	return "Http" + strconv.Itoa(status)
}

// left reads what ARM says is left of the subscription's limits for requests of this kind: of this identity's, and of all together.
func left(q question, h http.Header) *int {
	limits := [...]string{"X-Ms-Ratelimit-Remaining-Subscription-Reads", "X-Ms-Ratelimit-Remaining-Subscription-Global-Reads"}
	if q == askDelete {
		limits = [...]string{"X-Ms-Ratelimit-Remaining-Subscription-Deletes", "X-Ms-Ratelimit-Remaining-Subscription-Global-Deletes"}
	}
	var least *int
	for _, limit := range limits {
		value := h.Get(limit)
		if value == "" {
			continue
		}
		if n, err := strconv.Atoi(value); err == nil && n >= 0 && (least == nil || n < *least) {
			least = &n
		}
	}
	return least
}

// retryAfter reads how long ARM asks to wait: milliseconds in the two headers that azcore knows, then Retry-After in
// seconds or as an HTTP date. Zero, the past and nonsense count as absent. (Names stand here as net/http keeps them: another spelling
// is spelt anew each time.)
func retryAfter(h http.Header, now time.Time) time.Duration {
	for _, name := range [...]string{"Retry-After-Ms", "X-Ms-Retry-After-Ms"} {
		if d := count(h.Get(name), time.Millisecond); d > 0 {
			return d
		}
	}
	value := strings.TrimSpace(h.Get("Retry-After"))
	if value == "" {
		return 0
	}
	if d := count(value, time.Second); d > 0 {
		return d
	}
	if date, err := http.ParseTime(value); err == nil {
		return max(0, date.Sub(now))
	}
	return 0
}

// count reads a whole number of units. What does not fit a Duration is as good as for ever, and is capped by the caller.
func count(value string, unit time.Duration) time.Duration {
	const forever = time.Duration(1<<63 - 1)
	if value == "" {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
	if err != nil && n == 0 {
		return 0
	}
	if n > uint64(forever/unit) {
		return forever
	}
	return time.Duration(n) * unit
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// cut makes a text from outside fit for a message: valid UTF-8, which a header need not be, and at most n bytes.
func cut(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
