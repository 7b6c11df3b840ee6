package fault

import (
	"cmp"
	"net/http"
	"time"
)

// Handler serves HTTP with the faults that the injector chooses. refuse answers as the service itself would.
func (in Injector) Handler(service string, next http.Handler, refuse func(w http.ResponseWriter, r *http.Request, status int)) http.Handler {
	if in == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f := in(Operation{Service: service, Name: r.Method, Target: r.URL.RequestURI()})
		// Without a delay there must be no timer: under the race detector Go 1.26 crashes, or hangs, when goroutines of a synctest
		// bubble look at channel timers that have fired already.
		if f.Delay > 0 {
			select {
			case <-time.After(f.Delay):
			case <-r.Context().Done():
			}
		}
		switch f.Kind {
		case Refused:
			refuse(w, r, cmp.Or(f.Status, http.StatusServiceUnavailable))
			return
		case Unanswered, Silent:
			next.ServeHTTP(nobody{header: http.Header{}}, r)
		case Unheard:
		default:
			next.ServeHTTP(w, r)
			return
		}
		if f.Kind == Silent {
			<-r.Context().Done()
		}
		// The one way of net/http to end an exchange without an answer over HTTP/1.1 and HTTP/2 alike.
		panic(http.ErrAbortHandler)
	})
}

// nobody reads an answer that is lost.
type nobody struct{ header http.Header }

func (n nobody) Header() http.Header         { return n.header }
func (n nobody) Write(b []byte) (int, error) { return len(b), nil }
func (n nobody) WriteHeader(int)             {}
