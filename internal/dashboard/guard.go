package dashboard

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"net/http"
	"strings"
)

// cookieName is that of the cookie that a visitor has who knew the token.
const cookieName = "hsmsweep-dashboard"

// A guard lets in who has the token. Without a token it lets everybody in.
type guard struct {
	token   string
	session string // the cookie's value: made of the token, good until this process ends
}

func newGuard(token string) *guard {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(token))
	return &guard{token: token, session: hex.EncodeToString(mac.Sum(nil))}
}

// inside refuses who has neither the cookie nor the token, and shows who comes for the page where to sign in.
func (g *guard) inside(next http.Handler) http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		switch {
		case g.token == "" || g.knows(r):
			next.ServeHTTP(out, r)
		case r.Method == http.MethodGet && r.URL.Path == "/":
			page, err := assets.ReadFile("assets/login.html")
			if err != nil {
				panic(err) // it is embedded
			}
			out.Header().Set("Content-Type", "text/html; charset=utf-8")
			out.WriteHeader(http.StatusUnauthorized)
			_, _ = out.Write(page)
		default:
			out.Header().Set("WWW-Authenticate", `Bearer realm="hsmsweep"`)
			refuse(out, http.StatusUnauthorized, "the dashboard's token is needed")
		}
	})
}

func (g *guard) knows(r *http.Request) bool {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return same(token, g.token)
	}
	cookie, err := r.Cookie(cookieName)
	return err == nil && same(cookie.Value, g.session)
}

// login takes the token from the form and gives the cookie for it.
func (g *guard) login(out http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(out, r.Body, 4<<10)
	if g.token == "" || !same(r.PostFormValue("token"), g.token) {
		http.Redirect(out, r, "/?wrong", http.StatusSeeOther)
		return
	}
	http.SetCookie(out, &http.Cookie{Name: cookieName, Value: g.session, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https"})
	http.Redirect(out, r, "/", http.StatusSeeOther)
}

// same compares in a time that tells nothing, of the lengths either.
func same(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// loopbackOnly refuses who asks for another host than this machine: a stranger's page whose name leads here.
func loopbackOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if !IsLoopback(r.Host) {
			refuse(out, http.StatusForbidden, "this page is served to this machine only, under its loopback names")
			return
		}
		next.ServeHTTP(out, r)
	})
}

// IsLoopback tells whether an address, with a port or without, can be reached from this machine alone.
func IsLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = strings.Trim(addr, "[]")
	}
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}
