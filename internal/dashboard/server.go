package dashboard

import (
	"compress/gzip"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"hsmsweep/worker"
)

// Options configure a Dashboard.
type Options struct {
	Operator     *worker.Operator
	OpenEvents   func() (*azservicebus.Receiver, error) // of the entity for events; it only peeks
	Queue        string                                 // its name, to be shown
	Token        string                                 // that a visitor must have; empty: none
	AllowActions bool
	Log          *slog.Logger
}

// A Dashboard serves the page.
type Dashboard struct {
	watch   *watch
	queue   string
	actions bool
	guard   *guard
	log     *slog.Logger
}

// New makes a Dashboard. Nothing is read before somebody looks.
func New(o Options) *Dashboard {
	return &Dashboard{watch: newWatch(o.Operator, &ends{open: o.OpenEvents}), queue: o.Queue, actions: o.AllowActions, guard: newGuard(o.Token), log: o.Log}
}

//go:embed assets
var assets embed.FS

const (
	// actionTimeout bounds an action; to find a request again the whole queue is gone through.
	actionTimeout = 2 * time.Minute
	// drainTimeout is what an action in hand may take at the end.
	drainTimeout = 20 * time.Second
)

// Serve serves on the listener until ctx ends. An action in hand is then finished.
func (d *Dashboard) Serve(ctx context.Context, listener net.Listener) error {
	local := IsLoopback(listener.Addr().String())
	server := &http.Server{
		Handler:           d.handler(local),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      actionTimeout + 10*time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(d.log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx }, // whoever waits for a picture ends with it
	}
	var running sync.WaitGroup
	defer running.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	running.Go(func() { d.watch.run(ctx) })
	ended := make(chan error, 1)
	running.Go(func() { ended <- server.Serve(listener) })
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if err := server.Shutdown(draining); err != nil {
		return errors.Join(err, server.Close())
	}
	return nil
}

// handler is the page with all that guards it. The cheapest refusal comes first.
func (d *Dashboard) handler(local bool) http.Handler {
	files, err := fs.Sub(assets, "assets")
	if err != nil {
		panic(err) // the name is a constant above
	}
	static := http.FileServerFS(files)
	inside := http.NewServeMux()
	inside.Handle("GET /{$}", static)
	inside.HandleFunc("GET /js/{file}", func(out http.ResponseWriter, r *http.Request) {
		http.ServeFileFS(out, r, files, "js/"+r.PathValue("file"))
	})
	inside.HandleFunc("GET /api/state", d.state)
	inside.HandleFunc("GET /api/timeline", d.timeline)
	inside.HandleFunc("GET /api/find", d.find)
	inside.HandleFunc("POST /api/actions/{action}", d.act)

	outside := http.NewServeMux() // what a visitor sees without a token
	for _, name := range []string{"/app.css", "/icon.svg", "/login.js"} {
		outside.Handle("GET "+name, static)
	}
	outside.HandleFunc("POST /login", d.guard.login)
	outside.Handle("/", d.guard.inside(inside))

	var handler http.Handler = http.NewCrossOriginProtection().Handler(outside)
	if local {
		handler = loopbackOnly(handler)
	}
	return withHeaders(handler)
}

// policy lets the page load what it is made of and talk to this server, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

func withHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		for name, value := range map[string]string{
			"Content-Security-Policy":      policy,
			"X-Content-Type-Options":       "nosniff",
			"Referrer-Policy":              "no-referrer",
			"Cache-Control":                "no-store",
			"Cross-Origin-Opener-Policy":   "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin",
		} {
			out.Header().Set(name, value)
		}
		next.ServeHTTP(out, r)
	})
}

// state answers with the picture after the one that the page has. What of it has not changed is left out.
func (d *Dashboard) state(out http.ResponseWriter, r *http.Request) {
	have := func(name string) int64 {
		n, _ := strconv.ParseInt(r.FormValue(name), 10, 64) // what is no number is no version either
		return n
	}
	p := d.watch.look(r.Context(), have("number"))
	answer(compressed(out, r), http.StatusOK, struct {
		Number  int64     `json:"number"`
		Now     time.Time `json:"now"`
		Queue   string    `json:"queue"`
		Actions bool      `json:"actions"`
		Head    head      `json:"head"`
		Waiting *part     `json:"waiting,omitempty"`
		Ended   *part     `json:"ended,omitempty"`
		Dead    *part     `json:"dead,omitempty"`
	}{p.Number, time.Now().UTC(), d.queue, d.actions, p.Head,
		p.waiting.unless(have("waiting")), p.ended.unless(have("ended")), p.dead.unless(have("dead"))})
}

// timeline answers with what was seen of one request.
func (d *Dashboard) timeline(out http.ResponseWriter, r *http.Request) {
	answer(out, http.StatusOK, struct {
		Steps []step `json:"steps"`
	}{d.watch.timelines.steps(r.FormValue("lineage"))})
}

// find looks through the whole queue for a request's id, where the list has only the most urgent.
func (d *Dashboard) find(out http.ResponseWriter, r *http.Request) {
	found, err := d.watch.operator.Find(r.Context(), []string{r.FormValue("requestId")})
	if err != nil {
		refuse(out, http.StatusBadGateway, err.Error())
		return
	}
	rows := []waitRow{}
	for _, w := range found[:min(mostShown, len(found))] {
		d.watch.timelines.note(w, time.Now())
		rows = append(rows, newWaitRow(w))
	}
	answer(out, http.StatusOK, struct {
		Rows []waitRow `json:"rows"`
	}{rows})
}

// A compressor is an answer that is compressed, written at once: lists of requests are a tenth as long then.
type compressor struct {
	http.ResponseWriter
}

// compressed compresses for whoever takes that, which are all browsers.
func compressed(out http.ResponseWriter, r *http.Request) http.ResponseWriter {
	if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		return out
	}
	out.Header().Set("Content-Encoding", "gzip")
	return compressor{out}
}

func (c compressor) Write(text []byte) (int, error) {
	gz := gzip.NewWriter(c.ResponseWriter)
	_, err := gz.Write(text)
	return len(text), errors.Join(err, gz.Close())
}

func answer(out http.ResponseWriter, status int, value any) {
	out.Header().Set("Content-Type", "application/json")
	out.WriteHeader(status)
	_ = json.NewEncoder(out).Encode(value) // whoever has gone does not want it
}

func refuse(out http.ResponseWriter, status int, why string) {
	answer(out, status, struct {
		Error string `json:"error"`
	}{why})
}
