package admin_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	sdk "github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"
	"github.com/google/go-cmp/cmp"

	"hsmsweep/internal/emulator/authority"
	"hsmsweep/internal/emulator/servicebus/admin"
	"hsmsweep/internal/emulator/servicebus/broker"
)

// rewrite sends the client's https requests to a server in plain text.
type rewrite struct{ server *httptest.Server }

func (w rewrite) Do(r *http.Request) (*http.Response, error) {
	target, err := url.Parse(w.server.URL)
	if err != nil {
		return nil, err
	}
	r.URL.Scheme, r.URL.Host = target.Scheme, target.Host
	return w.server.Client().Do(r)
}

// start serves the API for a broker with the given entities and returns the real client of it.
func start(t testing.TB, c broker.Config) (*broker.Broker, *sdk.Client) {
	t.Helper()
	b := newBroker(t, c)
	server := httptest.NewServer(admin.New(b))
	t.Cleanup(server.Close)
	return b, newClient(t, "emulator.example", rewrite{server})
}

func newBroker(t testing.TB, c broker.Config) *broker.Broker {
	t.Helper()
	b, err := broker.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func newClient(t testing.TB, host string, transport interface {
	Do(*http.Request) (*http.Response, error)
}) *sdk.Client {
	t.Helper()
	client, err := sdk.NewClientFromConnectionString(
		"Endpoint=sb://"+host+";SharedAccessKeyName=n;SharedAccessKey=k;UseDevelopmentEmulator=true",
		&sdk.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func entity(t testing.TB, b *broker.Broker, path string) *broker.Entity {
	t.Helper()
	return must[*broker.Entity](t)(b.Entity(path))
}

// wantRefusal checks that the client got status, and the words in the answer.
func wantRefusal(t *testing.T, err error, status int, words string) {
	t.Helper()
	response, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok || response.StatusCode != status || !strings.Contains(err.Error(), words) {
		t.Errorf("error %v\nwant status %d and %q in it", err, status, words)
	}
}

func TestPlainAndTLSOnOnePort(t *testing.T) {
	authority := must[*authority.Authority](t)(authority.New())
	server := httptest.NewUnstartedServer(admin.New(newBroker(t, broker.DefaultConfig())))
	server.Listener = admin.EitherTLS(server.Listener, authority.ServerConfig())
	server.Start()
	t.Cleanup(server.Close)
	overTLS := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authority.Pool()}, ForceAttemptHTTP2: true}}
	t.Cleanup(overTLS.CloseIdleConnections)
	address := server.Listener.Addr().String()

	// A client that connects and says nothing is in nobody's way.
	silent := must[net.Conn](t)(net.Dial("tcp", address))
	t.Cleanup(func() { silent.Close() })
	byToken, err := sdk.NewClient(address, credential{}, &sdk.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: overTLS}})
	if err != nil {
		t.Fatal(err)
	}
	for name, client := range map[string]*sdk.Client{
		"TLS and a token credential":  byToken,
		"TLS and a connection string": newClient(t, address, overTLS),
		"plain":                       newClient(t, address, rewrite{server}),
	} {
		if q, err := client.GetQueue(t.Context(), "connection-deletes", nil); err != nil || q == nil {
			t.Errorf("%s: queue %v, error %v", name, q, err)
		}
	}
}

// credential is one whose token is as good as any.
type credential struct{}

func (credential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "any", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func TestNamespace(t *testing.T) {
	before := time.Now().Add(-time.Second)
	_, client := start(t, broker.Config{})
	got, err := client.GetNamespaceProperties(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.Name != "sbemulatorns" || got.SKU != "Standard" || got.CreatedTime.Before(before) || !got.ModifiedTime.Equal(got.CreatedTime) {
		t.Errorf("namespace %+v, want sbemulatorns, Standard, created and modified just now", got.NamespaceProperties)
	}
}

func TestPaging(t *testing.T) {
	config := broker.Config{Topics: []broker.TopicConfig{{Name: "t"}}}
	for i := range 250 {
		config.Queues = append(config.Queues, broker.QueueConfig{Name: fmt.Sprintf("q%03d", i)})
	}
	for i := range 7 {
		s := broker.SubscriptionConfig{Name: fmt.Sprint("s", i)}
		for j := range 3 {
			s.Rules = append(s.Rules, broker.Rule{Name: fmt.Sprint("r", j)})
		}
		config.Topics[0].Subscriptions = append(config.Topics[0].Subscriptions, s)
	}
	_, client := start(t, config)

	names := func(prefix string, from, to int) (all []string) {
		for i := from; i < to; i++ {
			all = append(all, fmt.Sprintf(prefix, i))
		}
		return all
	}
	tests := []struct {
		name  string
		fetch func(size int32) pager
		size  int32
		pages []int
		want  []string
	}{
		{"queues without a size", queuePager(client), 0, []int{100, 100, 50, 0}, names("q%03d", 0, 250)},
		{"queues by 60", queuePager(client), 60, []int{60, 60, 60, 60, 10}, names("q%03d", 0, 250)},
		{"queues by 50", queuePager(client), 50, []int{50, 50, 50, 50, 50, 0}, names("q%03d", 0, 250)},
		{"topics", topicPager(client), 0, []int{1, 0}, []string{"t"}},
		{"subscriptions by 4", subscriptionPager(client, "t"), 4, []int{4, 3}, names("s%d", 0, 7)},
		{"rules by 2", rulePager(client, "t", "s3"), 2, []int{2, 1}, names("r%d", 0, 3)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var pages []int
			var got []string
			for p := test.fetch(test.size); p.More(); {
				page, err := p.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				pages, got = append(pages, len(page)), append(got, page...)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.pages, pages); diff != "" {
				t.Errorf("sizes of pages (-want +got):\n%s", diff)
			}
		})
	}
}

// A pager lists names page by page, of whatever the SDK lists.
type pager struct {
	More func() bool
	Next func(context.Context) ([]string, error)
}

func queuePager(c *sdk.Client) func(int32) pager {
	return func(size int32) pager {
		p := c.NewListQueuesPager(&sdk.ListQueuesOptions{MaxPageSize: size})
		return pager{p.More, func(ctx context.Context) (names []string, err error) {
			page, err := p.NextPage(ctx)
			for _, q := range page.Queues {
				names = append(names, q.QueueName)
			}
			return names, err
		}}
	}
}

func topicPager(c *sdk.Client) func(int32) pager {
	return func(size int32) pager {
		p := c.NewListTopicsPager(&sdk.ListTopicsOptions{MaxPageSize: size})
		return pager{p.More, func(ctx context.Context) (names []string, err error) {
			page, err := p.NextPage(ctx)
			for _, topic := range page.Topics {
				names = append(names, topic.TopicName)
			}
			return names, err
		}}
	}
}

func subscriptionPager(c *sdk.Client, topic string) func(int32) pager {
	return func(size int32) pager {
		p := c.NewListSubscriptionsPager(topic, &sdk.ListSubscriptionsOptions{MaxPageSize: size})
		return pager{p.More, func(ctx context.Context) (names []string, err error) {
			page, err := p.NextPage(ctx)
			for _, s := range page.Subscriptions {
				names = append(names, s.SubscriptionName)
			}
			return names, err
		}}
	}
}

func rulePager(c *sdk.Client, topic, subscription string) func(int32) pager {
	return func(size int32) pager {
		p := c.NewListRulesPager(topic, subscription, &sdk.ListRulesOptions{MaxPageSize: size})
		return pager{p.More, func(ctx context.Context) (names []string, err error) {
			page, err := p.NextPage(ctx)
			for _, r := range page.Rules {
				names = append(names, r.Name)
			}
			return names, err
		}}
	}
}

// TestWire has what the SDK does not send, and the shape of answers.
func TestWire(t *testing.T) {
	const queue = `<entry xmlns="http://www.w3.org/2005/Atom"><content type="application/xml">` +
		`<QueueDescription xmlns="http://schemas.microsoft.com/netservices/2010/10/servicebus/connect">%s</QueueDescription></content></entry>`
	description := func(inside string) string { return fmt.Sprintf(queue, inside) }
	tests := []struct {
		name, method, path, body string
		header                   http.Header
		status                   int
		want                     string // in the answer
	}{
		{"no token", "GET", "/q", "", http.Header{"Authorization": nil}, 401, "<Error><Code>401</Code><Detail>MissingToken"},
		{"any token", "GET", "/q", "", http.Header{"Authorization": {"x"}}, 200, "<title type=\"text\">q</title>"},
		{"nothing there", "GET", "/none", "", nil, 404, "<Code>404</Code>"},
		{"dead-letter queue", "GET", "/q/$DeadLetterQueue", "", nil, 404, "is a dead-letter queue"},
		{"root", "GET", "/", "", nil, 404, "<Code>404</Code>"},
		{"other method", "POST", "/q", "", nil, 405, "POST is not among the methods"},
		{"case of the path", "GET", "/T/subscriptions/S", "", nil, 200, "<title type=\"text\">s</title>"},
		{"escaped list", "GET", "/%24Resources/Queues?%24top=1", "", nil, 200, "<title type=\"text\">Queues</title>"},
		{"page beyond the end", "GET", "/$Resources/Queues?$skip=9", "", nil, 200, "</id></feed>"},
		{"bad $top", "GET", "/$Resources/Queues?$top=x", "", nil, 400, "$top is &#34;x&#34;"},
		{"bad $skip", "GET", "/$Resources/Topics?$skip=-1", "", nil, 400, "$skip is &#34;-1&#34;"},
		{"subscriptions of a queue", "GET", "/q/Subscriptions", "", nil, 404, "is a queue"},
		{"rules of a queue", "GET", "/q/Subscriptions/s/Rules", "", nil, 404, "<Code>404</Code>"},
		{"no body", "PUT", "/new", "", nil, 400, "the body is not XML"},
		{"not an entry", "PUT", "/new", "<feed/>", nil, 400, "not an ATOM entry"},
		{"unknown description", "PUT", "/new", "<entry><content><Relay/></content></entry>", nil, 400, "&#34;Relay&#34; is not a description"},
		{"too long", "PUT", "/new", description("<UserMetadata>" + strings.Repeat("x", 1<<20) + "</UserMetadata>"), nil, 400, "longer than 1048576 bytes"},
		{"unknown setting", "PUT", "/new", description("<LockDuratoin>PT1M</LockDuratoin>"), nil, 400, "LockDuratoin is not a setting of a queue"},
		{"a topic's setting", "PUT", "/new", description("<SubscriptionCount>1</SubscriptionCount>"), nil, 400, "SubscriptionCount is not a setting of a queue"},
		{"setting twice", "PUT", "/new", description("<MaxDeliveryCount>1</MaxDeliveryCount><MaxDeliveryCount>2</MaxDeliveryCount>"), nil, 400, "MaxDeliveryCount is there more than once"},
		{"elements for text", "PUT", "/new", description("<LockDuration><a/></LockDuration>"), nil, 400, "LockDuration has elements in it"},
		{"every fault at once", "PUT", "/new", description("<LockDuration>1m</LockDuration><EnableExpress>true</EnableExpress>"), nil, 400, "express entities are not supported"},
		{"number", "PUT", "/new", description("<MaxDeliveryCount>0</MaxDeliveryCount>"), nil, 400, "must be a number from 1"},
		{"bool", "PUT", "/new", description("<EnableBatchedOperations>yes</EnableBatchedOperations>"), nil, 400, "must be true or false"},
		{"bool as a number", "PUT", "/new1", description("<RequiresDuplicateDetection>1</RequiresDuplicateDetection>"), nil, 201, "<RequiresDuplicateDetection>true<"},
		{"empty settings", "PUT", "/new2", description("<ForwardTo/><UserMetadata></UserMetadata><LockDuration/>"), nil, 201, "<LockDuration>PT1M<"},
		{"entity tag", "PUT", "/q", description(""), http.Header{"If-Match": {`"1"`}}, 400, "entity tags are not supported"},
		{"bad name", "PUT", "/-new-", description(""), nil, 400, "a name has 1 to 260"},
		{"queue below a topic", "PUT", "/t/Subscriptions/x", description(""), nil, 400, "is not a path for a queue"},
		{"delete a dead-letter queue", "DELETE", "/q/$DeadLetterQueue", "", nil, 400, "not allowed"},
		{"rule without a description", "PUT", "/t/Subscriptions/s/Rules/r", description(""), nil, 400, "is not a RuleDescription"},
		{"rule of a bad type", "PUT", "/t/Subscriptions/s/Rules/r", "<entry><content><RuleDescription><Filter/></RuleDescription></content></entry>", nil, 400, "has type &#34;&#34;"},
	}
	h := admin.New(newBroker(t, broker.Config{
		Queues: []broker.QueueConfig{{Name: "q"}},
		Topics: []broker.TopicConfig{{Name: "t", Subscriptions: []broker.SubscriptionConfig{{Name: "s"}}}},
	}))
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			target := must[*url.URL](t)(url.Parse(test.path))
			status, body := exchange(t, h, test.method, target, test.body, test.header)
			if status != test.status || !strings.Contains(body, test.want) {
				t.Errorf("status %d, want %d with %q in\n%s", status, test.status, test.want, body)
			}
		})
	}
}

// exchange makes one request, with a token unless header says otherwise.
func exchange(t testing.TB, h http.Handler, method string, target *url.URL, body string, header http.Header) (status int, answer string) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "/", strings.NewReader(body))
	r.URL = target
	r.Header.Set("Authorization", "token")
	for name, values := range header {
		r.Header[name] = values
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	text, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(text)
}
