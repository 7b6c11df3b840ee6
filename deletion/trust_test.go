package deletion

import (
	"net/url"
	"strings"
	"testing"
)

func trusting(t testing.TB, arm string, pollHosts ...string) trust {
	t.Helper()
	u, err := url.Parse(arm)
	if err != nil {
		t.Fatal(err)
	}
	return trust{arm: u, allowed: pollHosts}
}

func TestTrust(t *testing.T) {
	const (
		public  = "https://management.azure.com"
		private = "https://arm.local:8443"
	)
	tests := []struct {
		name, arm string
		pollHosts []string
		url       string
		want      string // the URL to ask, or the words of a refusal
	}{
		{"ARM itself", public, nil, public + "/op", public + "/op"},
		{"its port, spelt out", public, nil, public + ":443/op", public + ":443/op"},
		{"an empty port", public, nil, public + ":/op", public + ":/op"},
		{"its host in capitals", public, nil, "https://MANAGEMENT.Azure.com/op", "https://MANAGEMENT.Azure.com/op"},
		{"the scheme in capitals", public, nil, "HTTPS://management.azure.com/op", "HTTPS://management.azure.com/op"},
		{"a regional endpoint", public, nil, "https://westeurope.management.azure.com/op", "https://westeurope.management.azure.com/op"},
		{"a subdomain of a subdomain", public, nil, "https://a.b.management.azure.com/op", "https://a.b.management.azure.com/op"},
		{"an odd query, kept to the byte", public, nil, public + "/a%2fb?z=1&a=2&api-version=x&t=%7e&e=&f", public + "/a%2fb?z=1&a=2&api-version=x&t=%7e&e=&f"},
		{"an ARM endpoint with a port", private, nil, private + "/op", private + "/op"},
		{"an ARM endpoint on an IPv6 address", "https://[::1]:8443", nil, "https://[::1]:8443/op", "https://[::1]:8443/op"},
		{"an allowed host", public, []string{"poll.example"}, "https://poll.example/op", "https://poll.example/op"},
		{"an allowed host in capitals", public, []string{"Poll.Example"}, "https://pOLL.eXAMPLE/op", "https://pOLL.eXAMPLE/op"},
		{"an allowed host on any port", public, []string{"poll.example"}, "https://poll.example:8443/op", "https://poll.example:8443/op"},
		{"an allowed host and port", public, []string{"poll.example:8443"}, "https://poll.example:8443/op", "https://poll.example:8443/op"},
		{"an allowed default port, left out", public, []string{"poll.example:443"}, "https://poll.example/op", "https://poll.example/op"},
		{"the second of two allowed", public, []string{"one.example", "two.example"}, "https://two.example/op", "https://two.example/op"},
		{"an allowed IPv6 address", public, []string{"::1"}, "https://[::1]:8443/op", "https://[::1]:8443/op"},

		{"an allowed IPv6 address and port", public, []string{"[::1]:8443"}, "https://[::1]:8443/op", "https://[::1]:8443/op"},
		{"relative, a path", public, nil, "/op?a=1", public + "/op?a=1"},
		{"relative, with ARM's port", private, nil, "/op", private + "/op"},
		{"relative, a query", public, nil, "?a=1", public + "?a=1"},
		{"relative, a host that is ARM", public, nil, "//management.azure.com/op", public + "/op"},
		{"relative, a path with a backslash", public, nil, `/\evil.example/op`, public + `/%5Cevil.example/op`},
		{"relative, two backslashes", public, nil, `\\evil.example\op`, public + `/%5C%5Cevil.example%5Cop`},
		{"relative, three slashes", public, nil, "///evil.example/op", public + "///evil.example/op"},
		{"relative, a path that names a URL", public, nil, "/https://evil.example/op", public + "/https://evil.example/op"},

		{"another host", public, nil, "https://evil.example/op", "host evil.example is neither the ARM endpoint management.azure.com"},
		{"the sample response's host", public, nil, "https://some.endpoint.com/op", "nor allowed by --poll-host"},
		{"another cloud's ARM", public, nil, "https://management.usgovcloudapi.net/op", "is neither"},
		{"the parent domain", public, nil, "https://azure.com/op", "is neither"},
		{"a sibling", public, nil, "https://vault.azure.com/op", "is neither"},
		{"ARM as a suffix without a dot", public, nil, "https://evil-management.azure.com/op", "is neither"},
		{"ARM as a prefix", public, nil, "https://management.azure.com.evil.example/op", "is neither"},
		{"ARM as a label", public, nil, "https://management.azure.com-evil.example/op", "is neither"},
		{"a trailing dot", public, nil, "https://management.azure.com./op", "is neither"},
		{"a wide full stop", public, nil, "https://management。azure.com/op", "is neither"},
		{"http", public, nil, "http://management.azure.com/op", "is not https"},
		{"http to an allowed host", public, []string{"poll.example"}, "http://poll.example/op", "is not https"},
		{"ftp", public, nil, "ftp://management.azure.com/op", "is not https"},
		{"a file", public, nil, "file:///etc/passwd", "is not https"},
		{"data", public, nil, "data:text/plain,x", "is not https"},
		{"another port", public, nil, public + ":8443/op", "host management.azure.com:8443 is neither"},
		{"another port of a subdomain", public, nil, "https://westeurope.management.azure.com:8443/op", "is neither"},
		{"the default port of an ARM elsewhere", private, nil, "https://arm.local/op", "is neither the ARM endpoint arm.local:8443"},
		{"a port with a leading zero", public, nil, public + ":0443/op", "is neither"},
		{"a port that is none", public, nil, public + ":x/op", "cannot be read"},
		{"an allowed host on another port", public, []string{"poll.example:8443"}, "https://poll.example/op", "is neither"},
		{"a subdomain of an allowed host", public, []string{"poll.example"}, "https://a.poll.example/op", "is neither"},
		{"an allowed host as a suffix", public, []string{"poll.example"}, "https://evilpoll.example/op", "is neither"},
		{"a user name", public, nil, "https://user@management.azure.com/op", "user name"},
		{"a password", public, nil, "https://user:secret@management.azure.com/op", "user name"},
		{"an empty user name", public, nil, "https://@management.azure.com/op", "user name"},
		{"ARM as a user name", public, nil, "https://management.azure.com@evil.example/op", "user name"},
		{"ARM as user name and password", public, nil, "https://management.azure.com:443@evil.example/op", "user name"},
		{"a backslash before the at", public, nil, `https://management.azure.com\@evil.example/op`, "cannot be read"},
		{"a backslash in the host", public, nil, `https://evil.example\.management.azure.com/op`, "cannot be read"},
		{"a hash in the host", public, nil, "https://evil.example#.management.azure.com/op", "host evil.example is neither"},
		{"a question mark in the host", public, nil, "https://evil.example?.management.azure.com/op", "host evil.example is neither"},
		{"an encoded slash in the host", public, nil, "https://evil.example%2f.management.azure.com/op", "cannot be read"},
		{"IPv6", public, nil, "https://[::1]/op", "is neither"},
		{"IPv6 with a subdomain of ARM as its zone", public, nil, "https://[fe80::1%25.management.azure.com]/op", "is neither"},
		{"a bracket in a subdomain", public, nil, "https://a]b.management.azure.com/op", "is neither"},
		{"broken UTF-8 in a subdomain", public, nil, "https://a\xffb.management.azure.com/op", "cannot be read"},
		{"the metadata service", public, nil, "https://169.254.169.254/op", "is neither"},
		{"no host", public, nil, "https:///op", "names no host"},
		{"one slash", public, nil, "https:/op", "names no host"},
		{"no slash", public, nil, "https:management.azure.com/op", "names no host"},
		{"relative, another host", public, nil, "//evil.example/op", "host evil.example is neither"},
		{"white space before", public, nil, " " + public + "/op", "cannot be read"},
		{"a line end inside", public, nil, public + "/op\r\nX-Evil: 1", "cannot be read"},
		{"a NUL", public, nil, public + "/op\x00", "cannot be read"},
		{"a bad escape", public, nil, public + "/%zz", "cannot be read"},
		{"longer than is kept", public, nil, public + "/" + strings.Repeat("x", LongestOperationURL), "has 8221 bytes, more than the 8192 that are kept"},
		{"relative, longer than is kept once absolute", public, nil, "#" + strings.Repeat("#", LongestOperationURL-1), "more than the 8192 that are kept"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			op, err := trusting(t, tt.arm, tt.pollHosts...).resolve(Operation{URL: tt.url, Protocol: Location})
			switch isURL := strings.HasPrefix(strings.ToLower(tt.want), "https://"); {
			case isURL && err != nil:
				t.Errorf("%q is refused: %v", tt.url, err)
			case isURL && op != Operation{URL: tt.want, Protocol: Location}:
				t.Errorf("%q is asked as %+v, want %s", tt.url, op, tt.want)
			case !isURL && err == nil:
				t.Errorf("%q is asked as %s, want a refusal with %q", tt.url, op.URL, tt.want)
			case !isURL:
				checkError(t, err, tt.want)
				if strings.Contains(err.Error(), "secret") {
					t.Errorf("the error tells the password: %v", err)
				}
			}
		})
	}

	if op, err := trusting(t, public).resolve(Operation{Protocol: ReadBack}); err != nil || op != (Operation{Protocol: ReadBack}) {
		t.Errorf("an operation without a URL becomes %+v, %v", op, err)
	}
}
