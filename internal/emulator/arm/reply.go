package arm

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// reply is a decided answer. When silent it has no status, and the connection is cut, at once or when the client
// has given up.
type reply struct {
	status int
	header http.Header
	body   []byte
	silent bool
	hang   bool
}

type errorBody struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func newReply(status int) *reply {
	return &reply{status: status, header: http.Header{}}
}

func jsonReply(status int, body any) *reply {
	answer := newReply(status)
	answer.header.Set("Content-Type", "application/json; charset=utf-8")
	text, err := json.Marshal(body, json.Deterministic(true))
	if err != nil {
		return refuse(http.StatusInternalServerError, "InternalServerError", "The body cannot be written as JSON: %v", err)
	}
	answer.body = text
	return answer
}

// refuse answers with a CloudError.
func refuse(status int, code, format string, args ...any) *reply {
	answer := jsonReply(status, struct {
		Error errorBody `json:"error"`
	}{errorBody{Code: code, Message: fmt.Sprintf(format, args...)}})
	if status == http.StatusUnauthorized {
		answer.header.Set("WWW-Authenticate", `Bearer authorization_uri="https://login.microsoftonline.com/", error="invalid_token", error_description="The token is missing, malformed, expired or not for this audience."`)
	}
	return answer
}

// reply is a scripted error or silence.
func (a Answer) reply(target *connection, now time.Time) *reply {
	if a.Hang || a.Cut {
		return &reply{header: http.Header{}, silent: true, hang: a.Hang}
	}
	code := a.Code
	if code == "" {
		code = codeOf(a.Status)
	}
	message := a.Message
	if message == "" {
		message = messageOf(code, target)
	}
	answer := refuse(a.Status, code, "%s", message)
	if a.Body != nil {
		answer.body = []byte(*a.Body)
	}
	answer.retryAfter(a.RetryAfter, now)
	return answer
}

// retryAfter sets the header from a script's value, if it has one.
func (r *reply) retryAfter(value string, now time.Time) {
	if offset, ok := strings.CutPrefix(value, datePrefix); ok {
		if wait, err := time.ParseDuration(offset); err == nil {
			value = now.Add(wait).UTC().Format(http.TimeFormat)
		}
	}
	if value != "" {
		r.header.Set("Retry-After", value)
	}
}

// stamp sets the headers that every answer of ARM has.
func (s *Simulator) stamp(answer *reply, q request) {
	id := s.guid()
	correlation := q.Header.Get("x-ms-correlation-request-id")
	if correlation == "" {
		correlation = id
	}
	header := answer.header
	header.Set(s.remaining(q))
	header.Set("Cache-Control", "no-cache")
	header.Set("Pragma", "no-cache")
	header.Set("Date", q.now.UTC().Format(http.TimeFormat))
	header.Set("x-ms-request-id", id)
	header.Set("x-ms-correlation-request-id", correlation)
	header.Set("x-ms-routing-request-id", "WESTEUROPE:"+q.now.UTC().Format("20060102T150405Z")+":"+id)
}

func (r *reply) send(w http.ResponseWriter, q *http.Request) {
	if r.hang {
		<-q.Context().Done()
	}
	if r.silent {
		// The one way of net/http to end an exchange without an answer over HTTP/1.1 and HTTP/2 alike.
		panic(http.ErrAbortHandler)
	}
	for name, values := range r.header {
		w.Header()[name] = values
	}
	w.WriteHeader(r.status)
	w.Write(r.body)
}
