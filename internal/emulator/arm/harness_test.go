package arm_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	azarm "github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"

	"hsmsweep/internal/emulator/arm"
	"hsmsweep/internal/emulator/authority"
)

const (
	subscription = "0b1f6471-1bf0-4dda-aec3-cb9272f09590"
	groupID      = "/subscriptions/" + subscription + "/resourceGroups/Group-1"
	poolID       = groupID + "/providers/Microsoft.KeyVault/managedHSMs/Pool-1"
	c1           = poolID + "/privateEndpointConnections/c1"
	c2           = poolID + "/privateEndpointConnections/c2"
	endpointID   = groupID + "/providers/Microsoft.Network/privateEndpoints/pe1"
	version      = "?api-version=2021-10-01"
	base         = "https://management.test"
)

// newSimulator has one pool with a connection c1 of this script.
func newSimulator(t *testing.T, options arm.Options, script arm.Script) *arm.Simulator {
	t.Helper()
	if options.BaseURL == nil {
		options.BaseURL = func(*http.Request) string { return base }
	}
	s := arm.New(options)
	mustAdd(t, s, arm.Pool{
		ID:          poolID,
		Location:    "northeurope",
		Connections: []arm.Connection{{Name: "c1", Status: "Disconnected", PrivateEndpointID: endpointID, Script: script}},
	})
	return s
}

func mustAdd(t *testing.T, s *arm.Simulator, p arm.Pool) {
	t.Helper()
	if err := s.AddPool(p); err != nil {
		t.Fatal(err)
	}
}

func deletes(answers ...arm.Answer) arm.Script { return arm.Script{Deletes: answers} }

// answer is what one request got, in a shape to compare.
type answer struct {
	Status     int
	Code       string
	RetryAfter string
	State      string // provisioningState, or the status word of an operation
}

// do sends one request straight to the handler; target is a path with query or a URL under base.
func do(t *testing.T, s *arm.Simulator, method, target string) (answer, *httptest.ResponseRecorder) {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	request.Header.Set("Authorization", "Bearer token")
	recorder := httptest.NewRecorder()
	s.ServeHTTP(recorder, request)
	var body struct {
		Status string
		Error  struct{ Code string }
		Props  struct {
			State string `json:"provisioningState"`
		} `json:"properties"`
	}
	if recorder.Body.Len() > 0 {
		if err := json.Unmarshal(recorder.Body.Bytes(), &body); err != nil {
			t.Fatalf("%s %s: body %q: %v", method, target, recorder.Body, err)
		}
	}
	return answer{
		Status:     recorder.Code,
		Code:       body.Error.Code,
		RetryAfter: recorder.Header().Get("Retry-After"),
		State:      body.Status + body.Props.State,
	}, recorder
}

func expect(t *testing.T, s *arm.Simulator, method, target string, want answer) *httptest.ResponseRecorder {
	t.Helper()
	got, recorder := do(t, s, method, target)
	if got != want {
		t.Errorf("%s %s: %+v, want %+v", method, target, got, want)
	}
	return recorder
}

// pipeListener accepts the far ends of in-memory connections.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.closed:
		return nil, errors.New("the server is closed")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// serve serves the simulator over TLS on in-memory connections, as management.test, until the test's end function is
// called; it must be called inside the bubble.
func serve(t *testing.T, handler http.Handler) (client *http.Client, end func()) {
	t.Helper()
	ca, err := authority.New("management.test")
	if err != nil {
		t.Fatal(err)
	}
	listener := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: handler}
	var running sync.WaitGroup
	running.Go(func() { server.Serve(tls.NewListener(listener, ca.ServerConfig())) })
	transport := &http.Transport{DialContext: listener.dial, TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}}
	return &http.Client{Transport: transport}, func() {
		transport.CloseIdleConnections()
		server.Close()
		running.Wait()
	}
}

func sdkOptions(client *http.Client) *azarm.ClientOptions {
	return &azarm.ClientOptions{
		DisableRPRegistration: true,
		ClientOptions: azcore.ClientOptions{
			Transport: client,
			Retry:     policy.RetryOptions{MaxRetries: -1},
			Cloud: cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
				cloud.ResourceManager: {Endpoint: base, Audience: "https://management.core.windows.net/"},
			}},
		},
	}
}

type fixedToken string

func (f fixedToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(f)}, nil
}

func sdk(t *testing.T, client *http.Client, credential azcore.TokenCredential) *armkeyvault.ClientFactory {
	t.Helper()
	factory, err := armkeyvault.NewClientFactory(subscription, credential, sdkOptions(client))
	if err != nil {
		t.Fatal(err)
	}
	return factory
}
