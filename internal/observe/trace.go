package observe

import (
	"context"
	"fmt"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Traces makes spans. Nil and the zero value make none.
type Traces struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// Variables that turn the export on; the exporter reads the others of their family by itself.
const (
	envEndpoint       = "OTEL_EXPORTER_OTLP_ENDPOINT"
	envTracesEndpoint = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	envDisabled       = "OTEL_SDK_DISABLED"
)

const traceparent = "traceparent"

// w3c is the form in which a trace travels: https://www.w3.org/TR/trace-context/.
var w3c = propagation.TraceContext{}

// NewTraces returns traces of a role. Without a collector in the environment they make no spans: a caller's traceparent is then to
// be passed on as it came.
func NewTraces(ctx context.Context, role, version string, getenv func(string) string) (*Traces, error) {
	if getenv(envEndpoint) == "" && getenv(envTracesEndpoint) == "" || getenv(envDisabled) == "true" {
		return &Traces{}, nil
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	// Who names the service in the environment is right.
	described, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", "copyfleet"), attribute.String("service.version", version), attribute.String("copyfleet.role", role),
	), resource.WithHost(), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(described))
	return &Traces{provider: provider, tracer: provider.Tracer(scope)}, nil
}

func (t *Traces) off() bool { return t == nil || t.tracer == nil }

// Close exports what is left.
func (t *Traces) Close(ctx context.Context) error {
	if t.off() {
		return nil
	}
	if err := t.provider.Shutdown(ctx); err != nil {
		return fmt.Errorf("traces: %w", err)
	}
	return nil
}

// Span is one step of a trace. The zero value is none.
type Span struct{ span trace.Span }

// Call begins the span of an API call, below the one that its caller names in the traceparent header, if any.
func (t *Traces) Call(ctx context.Context, header http.Header, method string) (context.Context, Span) {
	if t.off() {
		return ctx, Span{}
	}
	ctx = w3c.Extract(ctx, propagation.HeaderCarrier(header))
	//nolint:spancheck // the caller ends it
	ctx, span := t.tracer.Start(ctx, method, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attribute.String("http.request.method", method)))
	return ctx, Span{span} //nolint:spancheck // the caller ends it
}

// SpanOf returns the span that a context is in.
func SpanOf(ctx context.Context) Span { return Span{trace.SpanFromContext(ctx)} }

// Parent returns the traceparent of the span in a context, under which work travels; "" if there is none.
func Parent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	w3c.Inject(ctx, carrier)
	return carrier.Get(traceparent)
}

// Item names an attempt.
type Item struct {
	Org, Batch     string
	Index, Attempt int
}

// Attempt begins the span of an attempt at an item, below the call that asked for it, in whatever process that was.
func (t *Traces) Attempt(ctx context.Context, parent string, item Item) (context.Context, Span) {
	if t.off() {
		return ctx, Span{}
	}
	if parent != "" {
		ctx = w3c.Extract(ctx, propagation.MapCarrier{traceparent: parent})
	}
	ctx, span := t.tracer.Start(ctx, "copy", trace.WithSpanKind(trace.SpanKindConsumer))
	if span.IsRecording() {
		span.SetAttributes(attribute.String(spanOrg, item.Org), attribute.String(spanBatch, item.Batch),
			attribute.Int(spanIndex, item.Index), attribute.Int(spanAttempt, item.Attempt))
	}
	return ctx, Span{span}
}

// Accepted notes the batch that a call made.
func (s Span) Accepted(org, batch string, items int) {
	if s.span != nil && s.span.IsRecording() {
		s.span.SetAttributes(attribute.String(spanOrg, org), attribute.String(spanBatch, batch), attribute.Int(spanItems, items))
	}
}

// Failed notes why the step failed. reason must hold no credential.
func (s Span) Failed(class, code, reason string) {
	if s.span != nil && s.span.IsRecording() {
		s.span.SetAttributes(attribute.String(spanClass, class), attribute.String(spanCode, code))
		s.span.SetStatus(codes.Error, reason)
	}
}

// Moved notes how many bytes arrived.
func (s Span) Moved(bytes int64) {
	if s.span != nil && s.span.IsRecording() {
		s.span.SetAttributes(attribute.Int64(spanBytes, bytes))
	}
}

// Answered notes the route of an API call, as a pattern, and the status of its answer.
func (s Span) Answered(method, route string, status int) {
	if s.span != nil && s.span.IsRecording() {
		s.span.SetName(method + " " + route)
		s.span.SetAttributes(attribute.String("http.route", route), attribute.Int("http.response.status_code", status))
		if status >= http.StatusInternalServerError {
			s.span.SetStatus(codes.Error, http.StatusText(status))
		}
	}
}

// End ends the span.
func (s Span) End() {
	if s.span != nil {
		s.span.End()
	}
}
