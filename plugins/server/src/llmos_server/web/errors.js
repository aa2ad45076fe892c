// What to do about a failure: which words say it, and which step helps.

/** Return `{text, step}`: keys of strings.  *step* names what the page offers as a button, or is empty. */
export function advice(failure) {
  const { status, code } = failure;
  if (code === "cut_off") return { text: "error.cut", step: "again" };
  if (status === 0 || status === undefined) return { text: "error.network", step: "again" };
  if (status === 401) return { text: "error.key", step: "key" };
  if (status === 403) return { text: "error.forbidden", step: "" };
  if (code === "model_not_found") return { text: "error.model", step: "models" };
  if (status === 404) return { text: "error.gone", step: "" };
  if (status === 429) return { text: "error.busy", step: "again" };
  if (code === "deadline_exceeded") return { text: "error.deadline", step: "again" };
  if (code === "stopping") return { text: "error.stopping", step: "again" };
  if (status === 400) return { text: "error.field", step: "settings" };
  if (status === 503) return { text: "error.unavailable", step: "models" };
  return { text: "error.server", step: "again" };
}
