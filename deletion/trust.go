package deletion

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// trust is the set of hosts that may be asked anything, because every request carries a bearer token: the ARM endpoint,
// its subdomains (regional endpoints) on the same port, and hosts that were allowed by name. ARM names the URL of an
// operation, and what a Location header or a message's property says is not ARM's word until it was checked.
type trust struct {
	arm     *url.URL
	allowed []string // HOST (any port) or HOST:PORT
}

// LongestOperationURL, in bytes, keeps an operation inside a message property. ARM asks clients to accept 4 KB.
const LongestOperationURL = 8 << 10

// Do is the pipeline policy: it stands before the token is fetched and sees every request, next links included. (Redirects
// are not followed at all, see NewClient.)
func (t trust) Do(req *policy.Request) (*http.Response, error) {
	if err := t.check(req.Raw().URL); err != nil {
		return nil, untrustedError{err}
	}
	return req.Next()
}

func (t trust) check(u *url.URL) error {
	switch {
	case u.Scheme != "https":
		return fmt.Errorf("%s is not https", printable(u.Redacted()))
	case u.User != nil:
		return errors.New("an operation URL with a user name in it is never asked")
	case u.Host == "":
		return errors.New("the operation URL names no host")
	case !t.trusts(u):
		return fmt.Errorf("host %s is neither the ARM endpoint %s, nor a subdomain of it, nor allowed by --poll-host", printable(u.Host), t.arm.Host)
	}
	return nil
}

func (t trust) trusts(u *url.URL) bool {
	host, port := strings.ToLower(u.Hostname()), portOf(u)
	home := strings.ToLower(t.arm.Hostname())
	subdomain := strings.HasSuffix(host, "."+home) && plainName.MatchString(host)
	if port == portOf(t.arm) && (host == home || subdomain) {
		return true
	}
	for _, allowed := range t.allowed {
		if strings.EqualFold(allowed, u.Hostname()) || strings.EqualFold(allowed, net.JoinHostPort(u.Hostname(), port)) {
			return true
		}
	}
	return false
}

// plainName keeps to DNS names: the zone of an IPv6 address could end like a subdomain too.
var plainName = regexp.MustCompile(`^[a-z0-9.-]+$`)

func portOf(u *url.URL) string {
	if port := u.Port(); port != "" {
		return port
	}
	return "443"
}

// resolve makes an operation's URL absolute (HTTP allows a relative Location) and checks it. What it gives back is what
// ARM gave where that was absolute, to the byte.
func (t trust) resolve(op Operation) (Operation, error) {
	if op.Protocol == ReadBack {
		return op, nil
	}
	u, err := t.arm.Parse(op.URL)
	if err != nil || !utf8.ValidString(op.URL) { // a message's property could not carry it
		return op, errors.New("the operation URL cannot be read")
	}
	if !strings.HasPrefix(strings.ToLower(op.URL), "https:") {
		op.URL = u.String()
	}
	if len(op.URL) > LongestOperationURL {
		return op, fmt.Errorf("the operation URL has %d bytes, more than the %d that are kept", len(op.URL), LongestOperationURL)
	}
	return op, t.check(u)
}

// untrustedError marks a request that was not sent; azcore hands it back as it is, without a retry.
type untrustedError struct{ error }

func (untrustedError) NonRetriable() {}
