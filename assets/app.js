// What moves on a page. Everything works without it; each module adds one thing.
import "./keys.js";
import "./palette.js";
import "./live.js";
import "./confirm.js";
import "./forms.js";
import "./paste.js";
import "./send.js";
