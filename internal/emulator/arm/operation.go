package arm

import (
	"cmp"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// operationQuery is the parameter that tells a poll from a read of the connection, as recorded.
const operationQuery = "kv-operation"

// operation is a delete that was answered 202. It outlives its end, so that a poll that is repeated gets the same
// end again.
type operation struct {
	Operation
	target       *connection
	subscription string
	id           string // in its URL
	url          string
	retryAfter   string // of the 202 to the DELETE
	started      time.Time
	failed       int // answers of PollErrors already given
	seen         int // running answers already given
	over         bool
}

func (s *Simulator) start(answer Answer, target *connection, q request) *operation {
	var script Operation
	if answer.Operation != nil {
		script = *answer.Operation
	}
	script.Header = cmp.Or(script.Header, HeaderLocation)
	target.etag = s.guid()
	started := &operation{Operation: script, target: target, subscription: q.target.subscription, retryAfter: cmp.Or(answer.RetryAfter, script.RetryAfter), started: q.now}
	version := "?api-version=" + q.query.Get("api-version")
	if script.Header == HeaderLocation {
		started.id = locationToken(q.now, target.etag)
		started.url = q.base + target.id + version + "&" + operationQuery + "=" + started.id
	} else {
		started.id = s.guid()
		started.url = q.base + "/subscriptions/" + q.target.subscription + "/providers/Microsoft.KeyVault/locations/" +
			target.pool.Location + "/managedHsmOperationResults/" + started.id + version
	}
	started.url = cmp.Or(script.URL, started.url)
	target.operation = started
	s.operations[started.id] = started
	return started
}

// locationToken has the three fields that recorded traffic carries.
func locationToken(now time.Time, etag string) string {
	token, _ := json.Marshal(struct {
		Code  string `json:"code"`
		Start string `json:"st"`
		ETag  string `json:"etag"`
	}{"privateEndpointConnections/delete", now.UTC().Format(time.RFC3339Nano), etag})
	return base64.RawURLEncoding.EncodeToString(token)
}

// accepted answers the DELETE that started the operation, and any other while it runs.
func (o *operation) accepted(now time.Time) *reply {
	answer := newReply(http.StatusAccepted)
	answer.retryAfter(o.retryAfter, now)
	if o.Header != HeaderNone {
		answer.header.Set(o.Header, o.url)
	}
	return answer
}

func (s *Simulator) pollLocation(q request, id string) *reply {
	polled := s.operations[id]
	if polled == nil || polled.Header != HeaderLocation || !strings.EqualFold(polled.target.id, q.target.connectionKey()) {
		return refuse(http.StatusNotFound, "NotFound", "The operation was not found.")
	}
	return s.poll(polled, q)
}

func (s *Simulator) pollStatus(q request) *reply {
	polled := s.operations[q.target.operation]
	if polled == nil || polled.Header == HeaderLocation || !strings.EqualFold(polled.subscription, q.target.subscription) {
		return refuse(http.StatusNotFound, "NotFound", "The operation was not found.")
	}
	return s.poll(polled, q)
}

func (s *Simulator) poll(polled *operation, q request) *reply {
	if polled.failed < len(polled.PollErrors) {
		polled.failed++
		return polled.PollErrors[polled.failed-1].reply(polled.target, q.now)
	}
	s.settle(polled.target, q.now)
	if !polled.over {
		polled.seen++
		return polled.running(q)
	}
	return polled.end()
}

// settle ends the connection's operation when its polls are used up or its time has passed.
func (s *Simulator) settle(c *connection, now time.Time) {
	running := c.operation
	if running == nil || running.runs(now) {
		return
	}
	running.over = true
	c.operation = nil
	c.etag = s.guid()
	c.gone = !running.keeps()
}

func (o *operation) runs(now time.Time) bool {
	if o.Seconds > 0 {
		return now.Before(o.started.Add(time.Duration(o.Seconds * float64(time.Second))))
	}
	return o.seen < o.Polls
}

func (o *operation) running(q request) *reply {
	if o.Header == HeaderLocation {
		answer := newReply(http.StatusAccepted)
		answer.header.Set(HeaderLocation, o.url)
		answer.retryAfter(o.RetryAfter, q.now)
		return answer
	}
	answer := jsonReply(http.StatusOK, o.status("InProgress"))
	answer.retryAfter(o.RetryAfter, q.now)
	return answer
}

// end answers by HTTP status where the script gives one and by a status body where it gives a word.
func (o *operation) end() *reply {
	end := o.ending()
	if end == "200 connection" {
		return jsonReply(http.StatusOK, o.target.deletedBody())
	}
	status, err := strconv.Atoi(end)
	switch {
	case err != nil:
		return jsonReply(http.StatusOK, o.status(end))
	case status < 400:
		return newReply(status)
	}
	return Answer{Status: status, Code: o.Code, Message: o.Message}.reply(o.target, o.started)
}

type statusBody struct {
	Name      string     `json:"name"`
	Status    string     `json:"status"`
	StartTime time.Time  `json:"startTime"`
	Error     *errorBody `json:"error,omitzero"`
}

func (o *operation) status(word string) statusBody {
	body := statusBody{Name: o.id, Status: word, StartTime: o.started.UTC()}
	if word == "Failed" || word == "Canceled" {
		code := cmp.Or(o.Code, "Operation"+word)
		body.Error = &errorBody{Code: code, Message: cmp.Or(o.Message, messageOf(code, o.target))}
	}
	return body
}
