package deletion

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestNothingIsRetried: a retry is a step of its own. It would otherwise be slept for with a lock held.
func TestNothingIsRetried(t *testing.T) {
	for _, n := range []int{408, 409, 429, 500, 502, 503, 504} {
		for _, q := range questions {
			t.Run(fmt.Sprint(n, " to ", q.name), func(t *testing.T) {
				a := serve(t, status(n, "Retry-After: 1"))
				c, _ := a.client()
				got, err := q.ask(t.Context(), c, must(t, ParseConnectionID, connection), a.URL)
				if err != nil {
					t.Fatal(err)
				}
				if got.HTTPStatus != n || got.RetryAfter != time.Second {
					t.Errorf("outcome %+v; want status %d and a wait of 1s", got, n)
				}
				if len(a.asked) != 1 {
					t.Errorf("asked %d times: %q", len(a.asked), a.asked)
				}
			})
		}
	}
}

// TestNoTokenFollowsARedirect has ARM point to a second server, which must never be asked.
func TestNoTokenFollowsARedirect(t *testing.T) {
	for _, n := range []int{301, 302, 303, 307, 308} {
		for _, q := range questions {
			t.Run(fmt.Sprint(n, " to ", q.name), func(t *testing.T) {
				elsewhere := serve(t)
				a := serve(t, status(n, "Location: "+elsewhere.URL+"/op"))
				c, _ := a.client()
				got, err := q.ask(t.Context(), c, must(t, ParseConnectionID, connection), a.URL)
				if err != nil {
					t.Fatal(err)
				}
				if got.HTTPStatus != n || got.Kind != Rejected && got.Kind != Failed {
					t.Errorf("outcome %+v; want status %d, rejected or failed", got, n)
				}
				if len(a.asked) != 1 {
					t.Errorf("ARM was asked %d times: %q", len(a.asked), a.asked)
				}
				elsewhere.expect()
			})
		}
	}
}

// TestUntrustedHostIsNeverAsked covers both ways in, ARM's header and an operation that came with a message, and then the
// pipeline's own guard behind them.
func TestUntrustedHostIsNeverAsked(t *testing.T) {
	id := must(t, ParseConnectionID, connection)
	for _, header := range []string{"Location", "Azure-AsyncOperation", "Operation-Location"} {
		elsewhere := serve(t)
		a := serve(t, status(202, header+": "+elsewhere.URL+"/op"))
		c, _ := a.client()
		got, err := c.Start(t.Context(), id)
		if err != nil || got.Kind != Untrusted || got.Code != CodeUntrusted || got.Operation != (Operation{}) {
			t.Errorf("%s elsewhere: %+v, %v; want untrusted, without the operation", header, got, err)
		}
		checkError(t, errors.New(got.Message), "nor allowed by --poll-host")
		a.expect(sentDelete)
		elsewhere.expect()
	}

	for _, protocol := range []Protocol{Location, AsyncOperation} {
		elsewhere, a := serve(t), serve(t)
		c, cred := a.client()
		got, err := c.Poll(t.Context(), id, Operation{elsewhere.URL + "/op", protocol})
		if err != nil || got.Kind != Untrusted || got.Code != CodeUntrusted {
			t.Errorf("%s elsewhere: %+v, %v; want untrusted", protocol, got, err)
		}
		if n := cred.asked.Load(); n != 0 {
			t.Errorf("%d tokens were fetched for it", n)
		}
		a.expect()
		elsewhere.expect()
	}

	elsewhere := serve(t)
	c, cred := serve(t).client()
	got, err := c.ask(t.Context(), http.MethodGet, elsewhere.URL+"/op", askLocation)
	if err != nil || got.Kind != Untrusted || cred.asked.Load() != 0 {
		t.Errorf("the pipeline lets it pass: %+v, %v, and %d tokens; want untrusted and none", got, err, cred.asked.Load())
	}
	elsewhere.expect()
}

func TestPollHostIsAsked(t *testing.T) {
	a, other := serve(t), serve(t, status(204))
	for _, host := range []string{strings.TrimPrefix(other.URL, "https://"), "127.0.0.1"} {
		other.answers, other.asked = []goldenAnswer{status(204)}, nil
		c, _ := a.client(host)
		got, err := c.Poll(t.Context(), must(t, ParseConnectionID, connection), Operation{other.URL + "/op", Location})
		if err != nil || got.Kind != Deleted {
			t.Errorf("--poll-host %s: %+v, %v; want deleted", host, got, err)
		}
		other.expect("GET /op")
	}
	a.expect()
}

// TestNoAnswer: whatever the network does is Unavailable, and told as that.
func TestNoAnswer(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer string // all that comes over the connection before it is cut
	}{
		{"cut before the answer", ""},
		{"cut in the headers", "HTTP/1.1 204 No Con"},
		{"cut in the body", "HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\n{"},
		{"not HTTP", "SSH-2.0-OpenSSH\r\n"},
	} {
		for _, q := range questions {
			t.Run(tt.name+", "+q.name, func(t *testing.T) {
				c := overPipe(t, func(conn net.Conn) {
					if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
						t.Errorf("no request came: %v", err)
					}
					_, _ = io.WriteString(conn, tt.answer) // an empty one is not read by anybody
				})
				got, err := q.ask(t.Context(), c, must(t, ParseConnectionID, connection), "https://management.azure.com")
				if err != nil || got.Kind != Unavailable || got.Message == "" {
					t.Errorf("outcome %+v, %v; want unavailable and why", got, err)
				}
			})
		}
	}
}

func TestHungAnswer(t *testing.T) {
	for _, tt := range []struct{ name, answer string }{
		{"nothing comes", ""},
		{"the body does not come", "HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\n{"},
	} {
		for _, q := range questions {
			t.Run(tt.name+", "+q.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := overPipe(t, hang(tt.answer))
					began := time.Now()
					got, err := q.ask(t.Context(), c, must(t, ParseConnectionID, connection), "https://management.azure.com")
					if err != nil || got.Kind != Unavailable {
						t.Errorf("outcome %+v, %v; want unavailable", got, err)
					}
					if took := time.Since(began); took != 30*time.Second {
						t.Errorf("gave up after %v, want 30s", took)
					}
				})
			})
		}
	}
}

func TestCancelledWhileAsking(t *testing.T) {
	drained := errors.New("the grace period is over")
	for _, q := range questions {
		t.Run(q.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := overPipe(t, hang(""))
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				defer time.AfterFunc(5*time.Second, func() { cancel(drained) }).Stop()
				began := time.Now()
				_, err := q.ask(ctx, c, must(t, ParseConnectionID, connection), "https://management.azure.com")
				if !errors.Is(err, drained) {
					t.Errorf("error %v, want the cause %v", err, drained)
				}
				if took := time.Since(began); took != 5*time.Second {
					t.Errorf("returned after %v, want 5s", took)
				}
			})
		})
	}
}

// hang reads the request, begins an answer, and then only waits for the other side to give up.
func hang(answer string) func(net.Conn) {
	return func(conn net.Conn) {
		_, _ = http.ReadRequest(bufio.NewReader(conn))
		_, _ = io.WriteString(conn, answer)
		_, _ = io.Copy(io.Discard, conn)
	}
}

// overPipe makes a client of an ARM that is reached in memory and behaves as serve says, once for each connection.
func overPipe(t *testing.T, serve func(net.Conn)) *Client {
	var servers sync.WaitGroup
	transport := &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		servers.Go(func() {
			defer there.Close()
			serve(there)
		})
		return here, nil
	}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		servers.Wait()
	})
	c, _ := newClient(t, "https://management.azure.com", transport)
	return c
}
