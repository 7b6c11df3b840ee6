package fault

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// TestHandler has one exchange of every kind: what the client sees, and whether the service did it.
func TestHandler(t *testing.T) {
	for _, tt := range []struct {
		fault   Fault
		status  int // 0: no answer
		applied int64
	}{
		{Fault{}, http.StatusOK, 1},
		{Fault{Delay: time.Millisecond}, http.StatusOK, 1},
		{Fault{Kind: Refused}, http.StatusServiceUnavailable, 0},
		{Fault{Kind: Refused, Status: http.StatusTooManyRequests}, http.StatusTooManyRequests, 0},
		{Fault{Kind: Unheard}, 0, 0},
		{Fault{Kind: Unanswered}, 0, 1},
		{Fault{Kind: Silent}, 0, 1},
	} {
		t.Run(string(tt.fault.Kind), func(t *testing.T) {
			var applied, asked atomic.Int64
			var in Injector = func(op Operation) Fault {
				asked.Add(1)
				if want := (Operation{Service: ARM, Name: "GET", Target: "/x?y=z"}); op != want {
					t.Errorf("asked about %+v, want %+v", op, want)
				}
				return tt.fault
			}
			server := httptest.NewServer(in.Handler(ARM, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				applied.Add(1)
				io.WriteString(w, "done")
			}), func(w http.ResponseWriter, _ *http.Request, status int) { w.WriteHeader(status) }))
			defer server.Close()
			client := server.Client()
			client.Timeout = 200 * time.Millisecond // as long as Silent takes
			if tt.fault.Kind != Silent {
				client.Timeout = 10 * time.Second
			}
			status := 0
			resp, err := client.Get(server.URL + "/x?y=z")
			if err == nil {
				status = resp.StatusCode
				_, err = io.Copy(io.Discard, resp.Body)
				err = errors.Join(err, resp.Body.Close())
			}
			if status != tt.status || tt.status != 0 && err != nil {
				t.Errorf("status %d, error %v; want status %d", status, err, tt.status)
			}
			if applied.Load() != tt.applied || asked.Load() != 1 {
				t.Errorf("applied %d times, asked %d times; want %d and 1", applied.Load(), asked.Load(), tt.applied)
			}
		})
	}
}
