package deletion

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// exchangeTimeout bounds one question to ARM. A hung answer is an Unavailable; the next try is another step.
const exchangeTimeout = 30 * time.Second

// Options configure a Client.
type Options struct {
	Credential azcore.TokenCredential
	Cloud      cloud.Configuration  // with the ARM endpoint and its token audience
	APIVersion string               // of resource requests; an operation URL keeps the one that ARM gave it
	PollHosts  []string             // HOST or HOST:PORT besides ARM's own to which an operation URL may point
	Transport  http.RoundTripper    // nil: NewTransport's
	Tracer     trace.TracerProvider // nil: no spans
	Meter      metric.MeterProvider // nil: nothing is measured
}

// A Client asks ARM, one question a call. It is safe for concurrent use.
type Client struct {
	pipeline   runtime.Pipeline
	endpoint   string
	apiVersion string
	trust      trust
	credential azcore.TokenCredential
	audience   string
	keyvault   *arm.ClientOptions
	transport  *http.Transport // how Reach connects; nil: as none of net/http's does
}

// NewClient makes a client whose pipeline neither retries (a retry is a step of its own, without a lock held), nor
// registers resource providers (that hides 409s and needs rights), nor follows redirects (a token must not follow them).
func NewClient(o Options) (*Client, error) {
	endpoint := o.Cloud.Services[cloud.ResourceManager].Endpoint
	home, err := url.Parse(endpoint)
	if err != nil || home.Scheme != "https" || home.Host == "" {
		return nil, fmt.Errorf("ARM endpoint %q is not an https URL", endpoint)
	}
	if o.Transport == nil {
		o.Transport = NewTransport()
	}
	credential := &calmCredential{credential: o.Credential}
	trusted := trust{arm: home, allowed: o.PollHosts}
	observer, err := newObserver(o.Tracer, o.Meter, trusted)
	if err != nil {
		return nil, err
	}
	c := &Client{
		endpoint:   "https://" + home.Host,
		apiVersion: o.APIVersion,
		trust:      trusted,
		credential: credential,
		audience:   o.Cloud.Services[cloud.ResourceManager].Audience,
	}
	if t, ok := o.Transport.(*http.Transport); ok { // net/http writes to its own with the first request
		c.transport = &http.Transport{DialContext: t.DialContext, Proxy: t.Proxy, TLSClientConfig: t.TLSClientConfig.Clone()}
	}
	options := arm.ClientOptions{
		DisableRPRegistration: true,
		ClientOptions: policy.ClientOptions{
			Cloud:            o.Cloud,
			Retry:            policy.RetryOptions{MaxRetries: -1},
			Telemetry:        policy.TelemetryOptions{ApplicationID: "hsmsweep"},
			PerCallPolicies:  []policy.Policy{c.trust},
			PerRetryPolicies: []policy.Policy{policyFunc(countSent), observer},
			Transport: &http.Client{
				Transport:     bounded{o.Transport},
				CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			},
		},
	}
	client, err := arm.NewClient("hsmsweep", "v1.0.0", credential, &options)
	if err != nil {
		return nil, err
	}
	c.pipeline = client.Pipeline()
	// The generated client would send its own api-version. Overriding it is safe here because this client never polls.
	keyvault := options
	keyvault.APIVersion = o.APIVersion
	c.keyvault = &keyvault
	return c, nil
}

// NewTransport has http.DefaultTransport's settings, but for what a worker that asks one host many things at a time needs.
func NewTransport() *http.Transport {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 64
	// A connection that died in silence is noticed in seconds; without pings HTTP/2 would go on using it for minutes.
	transport.HTTP2 = &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second}
	return transport
}

// Start sends the DELETE. The error is the context's cause, when that ended before an answer came; everything that ARM, the
// network or the credential do is an Outcome.
func (c *Client) Start(ctx context.Context, id ConnectionID) (Outcome, error) {
	u := c.endpoint + id.path() + "?api-version=" + url.QueryEscape(c.apiVersion)
	out, err := c.ask(ctx, http.MethodDelete, u, askDelete)
	if out.Kind == unclear {
		out.Kind, out.Operation = Accepted, Operation{Protocol: ReadBack}
	}
	if out.Kind == Accepted {
		out = c.follow(out, Operation{})
	}
	return out, err
}

// Poll asks how an operation stands: at its URL, exactly as ARM gave it, or where there is none or its answer leaves the
// matter open, by reading the connection back.
func (c *Client) Poll(ctx context.Context, id ConnectionID, op Operation) (Outcome, error) {
	if op.Protocol == ReadBack {
		return c.readBack(ctx, id, Expired, Outcome{})
	}
	op, err := c.trust.resolve(op)
	if err != nil {
		return Outcome{Kind: Untrusted, Code: CodeUntrusted, Message: err.Error()}, nil
	}
	q := askLocation
	if op.Protocol == AsyncOperation {
		q = askAsyncOperation
	}
	out, err := c.ask(ctx, http.MethodGet, op.URL, q)
	switch {
	case err != nil:
		return out, err
	case out.Kind == unclear && out.HTTPStatus < 300:
		return c.readBack(ctx, id, Running, Outcome{Operation: op, RetryAfter: out.RetryAfter, Sent: out.Sent})
	case out.Kind == unclear:
		return c.readBack(ctx, id, Expired, Outcome{Sent: out.Sent})
	case out.Kind == Running:
		return c.follow(out, op), nil
	}
	return out, nil
}

// Read asks for the connection: Present with what was Found, or Absent, or why neither is known.
func (c *Client) Read(ctx context.Context, id ConnectionID) (Outcome, error) {
	client, err := armkeyvault.NewMHSMPrivateEndpointConnectionsClient(id.Pool.SubscriptionID, c.credential, c.keyvault)
	if err != nil {
		return unavailable(err, 0), nil
	}
	var got armkeyvault.MHSMPrivateEndpointConnectionsClientGetResponse
	out, err := get(ctx, func(ctx context.Context) (err error) {
		got, err = client.Get(ctx, id.Pool.ResourceGroup, id.Pool.Name, id.Name, nil)
		return err
	})
	out.Found = found(got.Properties)
	return out, err
}

// readBack reads the connection to settle what a poll left open: gone is Deleted, still there is what the caller says, with
// the operation to go on with.
func (c *Client) readBack(ctx context.Context, id ConnectionID, stillThere Kind, next Outcome) (Outcome, error) {
	out, err := c.Read(ctx, id)
	out.Sent += next.Sent
	switch out.Kind {
	case Absent:
		out.Kind, out.Code, out.Message, out.Verified = Deleted, "", "", true
	case Present:
		out.Kind, out.Operation = stillThere, next.Operation
		out.RetryAfter = max(out.RetryAfter, next.RetryAfter)
	}
	return out, err
}

// follow settles which URL is polled next: a new one that ARM gave for the same protocol (beside an Azure-AsyncOperation, a
// Location is where the result will be, not what to poll), else the one before. An untrusted one ends it here.
func (c *Client) follow(out Outcome, before Operation) Outcome {
	if before.URL != "" && out.Operation.Protocol != before.Protocol {
		out.Operation = before
	}
	op, err := c.trust.resolve(out.Operation)
	if err != nil {
		out.Kind, out.Operation, out.Code, out.Message = Untrusted, Operation{}, CodeUntrusted, err.Error()
		return out
	}
	out.Operation = op
	return out
}

func (c *Client) ask(ctx context.Context, method, u string, q question) (Outcome, error) {
	asked, sent, cancel := exchange(ctx)
	defer cancel()
	req, err := runtime.NewRequest(asked, method, u)
	if err != nil {
		return Outcome{Kind: Untrusted, Code: CodeUntrusted, Message: "the operation URL cannot be asked"}, nil
	}
	req.Raw().Header.Set("Accept", "application/json")
	resp, err := c.pipeline.Do(req)
	if err != nil {
		if _, ok := errors.AsType[untrustedError](err); ok {
			return Outcome{Kind: Untrusted, Code: CodeUntrusted, Message: err.Error()}, nil
		}
		return unavailable(err, int(sent.Load())), cause(ctx)
	}
	return classify(q, read(resp)).sent(sent), nil
}

type sentKey struct{}

// exchange bounds a question and counts how often it goes out.
func exchange(ctx context.Context) (context.Context, *atomic.Int64, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	sent := new(atomic.Int64)
	return context.WithValue(ctx, sentKey{}, sent), sent, cancel
}

// countSent is the pipeline policy that has the transport tell of each request that it writes. It stands behind the policy
// that fetches the token, whose own requests do not count.
func countSent(req *policy.Request) (*http.Response, error) {
	ctx := req.Raw().Context()
	if sent, ok := ctx.Value(sentKey{}).(*atomic.Int64); ok {
		req = req.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Add(1) }}))
	}
	return req.Next()
}

type policyFunc func(*policy.Request) (*http.Response, error)

func (f policyFunc) Do(req *policy.Request) (*http.Response, error) { return f(req) }

func (o Outcome) sent(n *atomic.Int64) Outcome {
	o.Sent = int(n.Load())
	return o
}

// read takes the answer off the wire; azcore has downloaded the body already.
func read(resp *http.Response) answer {
	body, _ := runtime.Payload(resp) // an unreadable body is an empty one: the status still counts
	return answer{status: resp.StatusCode, header: resp.Header, body: body, at: answeredAt(resp.Header, time.Now())}
}

// answeredAt is when an answer came, by its sender's clock where that and this machine's differ by more than clocks do.
func answeredAt(h http.Header, now time.Time) time.Time {
	if date, err := http.ParseTime(h.Get("Date")); err == nil && date.Sub(now).Abs() > 3*time.Second {
		return date
	}
	return now
}

// bounded keeps an answer from filling the memory of a process that has other requests in hand. ARM's are a thousandth of this.
type bounded struct{ http.RoundTripper }

const longestAnswer = 4 << 20 // bytes

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(req)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, longestAnswer)
	}
	return resp, err
}

// unavailable is the outcome of a question without an answer: the network, a time-out, or no token. It went out so many times.
func unavailable(err error, sent int) Outcome {
	code := "NoAnswer"
	if _, ok := errors.AsType[interface {
		error
		NonRetriable()
	}](err); ok && sent == 0 {
		code = "NoToken"
	}
	return Outcome{Kind: Unavailable, Sent: sent, Code: code, Message: cut(err.Error(), 500)}
}

// cause is why the caller's context ended, nil while it has not.
func cause(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return context.Cause(ctx)
}

func found(p *armkeyvault.MHSMPrivateEndpointConnectionProperties) Connection {
	var out Connection
	if p == nil {
		return out
	}
	if p.PrivateEndpoint != nil && p.PrivateEndpoint.ID != nil {
		out.Endpoint = *p.PrivateEndpoint.ID
	}
	if s := p.PrivateLinkServiceConnectionState; s != nil && s.Status != nil {
		out.Status = string(*s.Status)
	}
	if p.ProvisioningState != nil {
		out.State = string(*p.ProvisioningState)
	}
	return out
}
