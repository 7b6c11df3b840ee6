package admin_test

import (
	"net/http"
	"net/url"
	"regexp"
	"testing"

	"hsmsweep/internal/emulator/servicebus/admin"
)

var address = regexp.MustCompile(`<id>https://example\.com/([^<]*)</id>`)

// moments are what an update changes.
var moments = regexp.MustCompile(`<(UpdatedAt|updated)>[^<]*<`)

// FuzzPut puts anything anywhere. It is refused in words or created; what was created is shown as an entry that can
// be put back and changes nothing.
func FuzzPut(f *testing.F) {
	const begin, end = `<entry xmlns="http://www.w3.org/2005/Atom" xmlns:i="http://www.w3.org/2001/XMLSchema-instance"><content type="application/xml">`, `</content></entry>`
	for _, seed := range []struct{ path, body string }{
		{"new", `<QueueDescription><LockDuration>PT30S</LockDuration><RequiresDuplicateDetection>true</RequiresDuplicateDetection>` +
			`<DuplicateDetectionHistoryTimeWindow>P1D</DuplicateDetectionHistoryTimeWindow><UserMetadata> &#13;&lt;x </UserMetadata></QueueDescription>`},
		{"new", `<TopicDescription><DefaultMessageTimeToLive>PT0.0000001S</DefaultMessageTimeToLive><MaxSizeInMegabytes>5</MaxSizeInMegabytes></TopicDescription>`},
		{"t/Subscriptions/new", `<SubscriptionDescription><MaxDeliveryCount>3</MaxDeliveryCount><DefaultRuleDescription><Filter i:type="FalseFilter"/><Name>r</Name></DefaultRuleDescription></SubscriptionDescription>`},
		{"t/Subscriptions/s/Rules/new", `<RuleDescription><Filter i:type="CorrelationFilter"><Label>x</Label><Properties><KeyValueOfstringanyType><Key>k</Key>` +
			`<Value i:type="l28:double">1e300</Value></KeyValueOfstringanyType></Properties></Filter></RuleDescription>`},
	} {
		f.Add(seed.path, begin+seed.body+end)
	}
	f.Fuzz(func(t *testing.T, path, body string) {
		h := admin.New(newBroker(t, oneSubscription()))
		status, created := exchange(t, h, http.MethodPut, &url.URL{Path: path}, body, nil)
		switch status {
		case http.StatusCreated:
		case http.StatusBadRequest, http.StatusNotFound, http.StatusConflict:
			return
		default:
			t.Fatalf("status %d: %s", status, created)
		}
		id := address.FindStringSubmatch(created)
		if id == nil {
			t.Fatalf("no id in %s", created)
		}
		at := &url.URL{Path: id[1]}
		if status, answer := exchange(t, h, http.MethodPut, at, created, http.Header{"If-Match": {"*"}}); status != http.StatusOK {
			t.Fatalf("put back: status %d: %s\n%s", status, answer, created)
		}
		_, got := exchange(t, h, http.MethodGet, at, "", nil)
		if before, after := moments.ReplaceAllString(created, ""), moments.ReplaceAllString(got, ""); before != after {
			t.Fatalf("put back, it has changed from\n%s\nto\n%s", before, after)
		}
	})
}
