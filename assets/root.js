// Where the server lies, which may be below a path: its scripts are at ROOT/ui/assets/VERSION/NAME.
const ROOT = new URL("../../../", import.meta.url);

// The address of what has this path there, which begins without a slash.
export const at = (path) => new URL(path, ROOT).href;
