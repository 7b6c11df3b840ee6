package rest

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"hsmsweep/internal/emulator/servicebus/amqp"
)

// brokerProperties are what the header of that name sets. Others are ignored, as documented; so are those that only the broker
// sets. Their names are case-sensitive (unverified).
type brokerProperties struct {
	MessageID           string   `json:"MessageId"`
	CorrelationID       string   `json:"CorrelationId"`
	Label               string   `json:"Label"`
	To                  string   `json:"To"`
	ReplyTo             string   `json:"ReplyTo"`
	ReplyToSessionID    string   `json:"ReplyToSessionId"`
	SessionID           string   `json:"SessionId"`
	PartitionKey        string   `json:"PartitionKey"`
	ViaPartitionKey     string   `json:"ViaPartitionKey"`
	TimeToLive          *float64 `json:"TimeToLive"`              // seconds
	ScheduledEnqueueUTC string   `json:"ScheduledEnqueueTimeUtc"` // as in Sun, 06 Nov 1994 08:49:37 GMT; other forms are refused (unverified)
}

// newMessage is the message that a request's headers and body describe.
func newMessage(h http.Header, body []byte) (*amqp.Message, error) {
	m := &amqp.Message{Body: amqp.Data{body}}
	var p brokerProperties
	if text := h.Get("BrokerProperties"); text != "" {
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			return nil, invalid("BrokerProperties", text, err)
		}
		if err := p.apply(m); err != nil {
			return nil, invalid("BrokerProperties", text, err)
		}
	}
	contentType := h.Get("Content-Type")
	if strings.ContainsFunc(contentType, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return nil, invalid("Content-Type", contentType, errors.New("it is not ASCII"))
	}
	m.Properties = &amqp.Properties{To: p.To, Subject: p.Label, ReplyTo: p.ReplyTo, ContentType: amqp.Symbol(contentType),
		GroupID: p.SessionID, ReplyToGroupID: p.ReplyToSessionID}
	// An id that is not there must be none rather than an empty one.
	if p.MessageID != "" {
		m.Properties.MessageID = p.MessageID
	}
	if p.CorrelationID != "" {
		m.Properties.CorrelationID = p.CorrelationID
	}
	var err error
	m.ApplicationProperties, err = applicationProperties(h)
	return m, err
}

// invalid begins with the service's words.
func invalid(header, value string, err error) error {
	return fmt.Errorf("the value '%s' of the HTTP header '%s' is invalid: %w", value, header, err)
}

// apply sets what is not among a message's own properties. A session id or a partition key changes nothing here: entities have
// neither sessions nor partitions.
func (p brokerProperties) apply(m *amqp.Message) error {
	if p.SessionID != "" && p.PartitionKey != "" && p.SessionID != p.PartitionKey {
		return errors.New("SessionId and PartitionKey are both set, and differ")
	}
	if p.TimeToLive != nil {
		if *p.TimeToLive <= 0 {
			return errors.New("TimeToLive must be more than 0 seconds")
		}
		m.Header = &amqp.Header{TTL: new(uint32(min(*p.TimeToLive*1000, math.MaxUint32)))}
	}
	if text := strings.TrimSpace(p.ScheduledEnqueueUTC); text != "" {
		at, err := time.Parse(http.TimeFormat, text)
		if err != nil {
			return errors.New("ScheduledEnqueueTimeUtc must be a date such as Sun, 06 Nov 1994 08:49:37 GMT")
		}
		m.Annotations = append(m.Annotations, amqp.Entry{Key: amqp.Symbol("x-opt-scheduled-enqueue-time"), Value: at})
	}
	if p.PartitionKey != "" {
		m.Annotations = append(m.Annotations, amqp.Entry{Key: amqp.Symbol("x-opt-partition-key"), Value: p.PartitionKey})
	}
	if p.ViaPartitionKey != "" {
		m.Annotations = append(m.Annotations, amqp.Entry{Key: amqp.Symbol("x-opt-via-partition-key"), Value: p.ViaPartitionKey})
	}
	return nil
}

// ofHTTP are the headers, in lower case, that say something about the request and become no property. Which they are is not
// documented (unverified): these are HTTP's own and the two that the interface names.
var ofHTTP = []string{
	"accept", "accept-charset", "accept-encoding", "accept-language", "allow", "authorization", "brokerproperties", "cache-control",
	"connection", "content-encoding", "content-language", "content-length", "content-location", "content-md5", "content-range",
	"content-type", "cookie", "date", "expect", "expires", "from", "host", "if-match", "if-modified-since", "if-none-match", "if-range",
	"if-unmodified-since", "keep-alive", "last-modified", "max-forwards", "origin", "pragma", "proxy-authorization", "range", "referer",
	"te", "trailer", "transfer-encoding", "upgrade", "user-agent", "via", "warning", "x-ms-retrypolicy",
}

// applicationProperties are the other headers. Their names are in lower case, since net/http does not tell how they were sent;
// the service keeps them as they came over HTTP/1.1 (unverified).
func applicationProperties(h http.Header) (amqp.Map, error) {
	var properties amqp.Map
	for _, header := range slices.Sorted(maps.Keys(h)) {
		name := strings.ToLower(header)
		if slices.Contains(ofHTTP, name) {
			continue
		}
		text := strings.Join(h[header], ", ")
		value, err := propertyValue(text)
		if err != nil {
			return nil, invalid(header, text, err)
		}
		properties = append(properties, amqp.Entry{Key: name, Value: value})
	}
	return properties, nil
}

// propertyValue reads a header as the service writes properties: text in double quotes, and as in JSON inside of them; numbers;
// true and false. What is none of these is text as it stands. The service of 2012 refused that with 400
// (https://github.com/Azure/azure-sdk-for-php/issues/406), which would refuse what proxies add; today's is unverified, and so
// is the width of its numbers.
func propertyValue(text string) (any, error) {
	v := jsontext.Value(text)
	switch kind := v.Kind(); {
	case kind == '"':
		var s string
		err := json.Unmarshal(v, &s)
		return s, err
	case !utf8.ValidString(text):
		return nil, errors.New("it is not UTF-8")
	case text == "true", text == "false":
		return text == "true", nil
	case kind == '0' && v.IsValid():
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n, nil
		}
		if n, err := strconv.ParseFloat(text, 64); err == nil {
			return n, nil
		}
	}
	return text, nil
}
