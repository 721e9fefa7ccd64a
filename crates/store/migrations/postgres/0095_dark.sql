-- Who is shown as not connected is looked for after every fold, and a fold is some thousand GPUs of many.
CREATE INDEX gpu_dark ON gangline_public.gpu (id) WHERE flags & 1 = 0;
