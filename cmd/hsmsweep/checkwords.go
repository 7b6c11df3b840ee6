package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// What a service's answer, or its silence, means to whoever has to mend it. All of it is pure.

// judgeConnectionString looks at what can be seen of a key or signature: whether it has run out.
func judgeConnectionString(check, text string, now time.Time) finding {
	parts := connectionParts(text)
	signature, err := url.ParseQuery(parts["sharedaccesssignature"])
	if err != nil || signature.Get("se") == "" {
		return fine(check, "the connection string's key %s", parts["sharedaccesskeyname"])
	}
	seconds, err := strconv.ParseInt(signature.Get("se"), 10, 64)
	if err != nil {
		return unclear(check, "the signature's end (se) is no number of seconds", "")
	}
	const do = "make a new signature, or use --namespace with a managed identity"
	end := time.Unix(seconds, 0).UTC()
	message := "the connection string's signature, good until " + end.Format(time.RFC3339)
	switch left := end.Sub(now); {
	case left <= 0:
		return failure(check, message, do)
	case left < 14*24*time.Hour:
		return warning(check, message+": then the worker is locked out", do)
	}
	return fine(check, "%s", message)
}

func judgeToken(check, whose string, err error) finding {
	if err == nil {
		return fine(check, "a token for %s", whose)
	}
	return failure(check, fmt.Sprintf("no token for %s: %s", whose, cutText(err)),
		"give the process an identity: a managed identity (AZURE_CLIENT_ID names a user-assigned one), workload identity, or the AZURE_ variables of a service principal")
}

func judgeReach(check, host string, err error) finding {
	if err == nil {
		return fine(check, "%s", host)
	}
	do := "see the firewall, the private endpoint and the routes between here and there"
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		do = "see whether the name is spelt right, and whether its private DNS zone is linked to this network"
	} else if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		do = "somebody in between answers with a certificate of his own: trust its authority (SSL_CERT_FILE), or go round him"
	}
	return failure(check, fmt.Sprintf("%s cannot be reached: %s", host, cutText(err)), do)
}

// judgeLink says why a link was not opened.
func judgeLink(l link, err error) finding {
	bus, _ := errors.AsType[*azservicebus.Error](err)
	switch {
	case err == nil:
		return fine(l.check, "%s", l.entity)
	case bus != nil && bus.Code == azservicebus.CodeUnauthorizedAccess:
		return failure(l.check, fmt.Sprintf("%s refuses this identity: %s", l.entity, cutText(err)),
			fmt.Sprintf("assign the role %s on %s to the worker's identity (that takes minutes to spread), or give the key the right %s", l.role, l.entity, l.claim))
	case bus != nil && bus.Code == azservicebus.CodeNotFound:
		return failure(l.check, fmt.Sprintf("there is no %s: %s", l.entity, cutText(err)), fmt.Sprintf("make it, or name another as %s", l.flag))
	case silent(err):
		return failure(l.check, fmt.Sprintf("no answer about %s: %s", l.entity, cutText(err)), "try again; then see the namespace's health")
	}
	return failure(l.check, fmt.Sprintf("%s cannot be used: %s", l.entity, cutText(err)), "see its status in the portal")
}

// silent tells whether whoever was asked did not answer, so that the next question would wait as long.
func silent(err error) bool {
	bus, ok := errors.AsType[*azservicebus.Error](err)
	return errors.Is(err, context.DeadlineExceeded) || ok && (bus.Code == azservicebus.CodeConnectionLost || bus.Code == azservicebus.CodeTimeout)
}

// The settings that are not looked at without the right to read them.
const (
	queueSettings  = "LockDuration, MaxDeliveryCount, RequiresDuplicateDetection and its window, DeadLetteringOnMessageExpiration, DefaultMessageTimeToLive, RequiresSession"
	eventsSettings = "RequiresDuplicateDetection and its window"
)

// unreadSettings says why settings were not read. That is no failure: the worker does without.
func unreadSettings(check, name, which string, err error) finding {
	const grant = "check as somebody with Azure Service Bus Data Owner (of a key: the right Manage), or look by hand at "
	refused, _ := errors.AsType[*azcore.ResponseError](err)
	switch {
	case err == nil:
		return unclear(check, "the settings of "+name+" are not shown: it is not there, or may not be seen", grant+which)
	case refused != nil && (refused.StatusCode == http.StatusUnauthorized || refused.StatusCode == http.StatusForbidden):
		return unclear(check, fmt.Sprintf("the right to read the settings of %s is missing (HTTP %d)", name, refused.StatusCode), grant+which)
	case refused != nil:
		return unclear(check, fmt.Sprintf("the settings of %s were not read: HTTP %d %s", name, refused.StatusCode, refused.ErrorCode), "try again, or look by hand at "+which)
	}
	return unclear(check, fmt.Sprintf("the administration API (https) does not answer: %s", cutText(err)), "let https through from where you check, or look by hand at "+which)
}

const (
	skewSeen  = 3 * time.Second // more than good clocks, and a date of whole seconds, differ by
	skewFatal = 5 * time.Minute // what token checks commonly allow for
)

// judgeClock compares a service's clock with this machine's.
func judgeClock(check, whose string, m moment) finding {
	doubt := m.heard.Sub(m.asked) / 2
	ahead := m.asked.Add(doubt).Sub(m.date)
	off := ahead.Abs().Round(time.Second)
	way := map[bool]string{true: "ahead of", false: "behind"}[ahead > 0]
	message := fmt.Sprintf("this machine's clock is %s %s that of %s", brief(off), way, whose)
	switch {
	case off >= skewFatal:
		return failure(check, message+": tokens are taken for expired, or not yet valid", "set the clock (NTP)")
	case ahead.Abs() > skewSeen+doubt:
		return warning(check, message, "set the clock (NTP)")
	}
	return fine(check, "as that of %s", whose)
}

// cutText keeps an error that a service wrote short.
func cutText(err error) string { return plain(shorten(err.Error(), 300)) }

// plain is how people call a time-out.
func plain(text string) string {
	return strings.ReplaceAll(text, context.DeadlineExceeded.Error(), "no answer in time")
}
